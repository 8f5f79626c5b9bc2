"""The images, each as what it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hack.images import inputs, names


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image: its Dockerfile, the stage to build, and the files that decide whether a build is needed.

    `requirements` (any files) go into the `deps` stage, an image of its own; `code` is what the last layer
    holds. An image without `code` is built in one go.
    """

    name: str
    dockerfile: str
    target: str
    requirements: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        return names.repository(self.name).rpartition("/")[2].removeprefix("paddle-")

    def deps_key(self, base: str) -> str:
        text = (inputs.ROOT / self.dockerfile).read_text()
        if self.code:
            text = inputs.dependency_part(text)
        arguments = [f"{name}={value}" for name, value in sorted(self.arguments.items())]
        return inputs.digest(
            paths=[*self.requirements, "hack/images/site_packages.py"], texts=[base, text, *arguments]
        )

    def key(self, base: str) -> str:
        """The hash of everything that the image is made of."""
        if not self.code:
            return self.deps_key(base)
        return inputs.digest(paths=[*self.code, self.dockerfile], texts=[self.deps_key(base)])


def images(environment: Mapping[str, str]) -> tuple[Image, ...]:
    """All images. PADDLE_PACKAGE and PADDLE_INDEX choose another Paddle (GPU), PIP_INDEX_URL an index."""
    index = {key: environment[key] for key in ("PIP_INDEX_URL",) if environment.get(key)}
    paddle = {key: environment[key] for key in ("PADDLE_PACKAGE", "PADDLE_INDEX") if environment.get(key)}
    return (
        Image(
            name=names.OPERATOR,
            dockerfile="Dockerfile.operator",
            target="operator",
            requirements=("requirements/operator.txt",),
            code=("api", "artifacts", "controller_runtime", "controllers"),
            arguments=index,
        ),
        Image(
            name=names.RUNTIME,
            dockerfile="Dockerfile.runtime",
            target="runtime",
            requirements=("requirements/paddle.txt", "requirements/runtime.txt"),
            code=("artifacts", "runtime"),
            arguments={**index, **paddle},
        ),
        Image(
            name=names.ROUTER,
            dockerfile="Dockerfile.router",
            target="router",
            requirements=("requirements/envoy.txt", "hack/images/addons/router.py"),
            arguments=index,
        ),
        Image(
            name=names.SEAWEEDFS,
            dockerfile="hack/images/addons/Dockerfile.seaweedfs",
            target="seaweedfs",
            requirements=("requirements/tools.txt",),
            arguments=index,
        ),
        Image(
            name=names.PROMETHEUS,
            dockerfile="hack/images/addons/Dockerfile.prometheus",
            target="prometheus",
            requirements=("hack/images/addons/pod_targets.py",),
        ),
    )
