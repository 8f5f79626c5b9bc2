# mypy: ignore-errors
"""The same small controller on kopf: one owned ConfigMap and a status for each Sample.

Run with `kopf run --standalone`. kopf has no client, so the child is written with aiohttp and orjson.
"""

import os
import ssl
from pathlib import Path

import aiohttp
import kopf
import orjson
import yaml

GROUP, VERSION, PLURAL = "bench.example.com", "v1", "samples"
FIELD_MANAGER = "sample-controller"
HEADERS = {"Content-Type": "application/apply-patch+yaml"}
config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())


@kopf.on.login()
def login(**arguments):
    return kopf.login_with_kubeconfig(**arguments)


@kopf.on.startup()
async def start(settings, memo, **_):
    settings.posting.enabled = False
    settings.scanning.disabled = True
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
    tls.load_cert_chain(user["client-certificate"], user["client-key"])
    memo.session = aiohttp.ClientSession(cluster["server"], connector=aiohttp.TCPConnector(ssl=tls))


@kopf.on.cleanup()
async def stop(memo, **_):
    await memo.session.close()


@kopf.on.create(GROUP, VERSION, PLURAL)
@kopf.on.update(GROUP, VERSION, PLURAL, field="spec")
async def reconcile(name, namespace, uid, spec, meta, patch, memo, **_):
    owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Sample", "name": name, "uid": uid}
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {"app": "sample"},
        "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
    }
    data = {"value": spec["value"]}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    path = f"/api/v1/namespaces/{namespace}/configmaps/{name}?fieldManager={FIELD_MANAGER}&force=true"
    async with memo.session.patch(path, data=orjson.dumps(body), headers=HEADERS) as response:
        response.raise_for_status()
        await response.read()
    patch.status["value"] = spec["value"]
    patch.status["observedGeneration"] = meta["generation"]
