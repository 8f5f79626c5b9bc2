"""The iptables rules of a node: recorded before, removed after, nobody else's touched."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping

from hack.cluster import paths

FAMILIES = ("iptables", "ip6tables")


def parse(saved: str) -> dict[str, dict[str, str]]:
    """Table -> chain -> policy (``-`` for a chain somebody made) from iptables-save."""
    tables: dict[str, dict[str, str]] = {}
    chains: dict[str, str] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            chains = tables.setdefault(line[1:].strip(), {})
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains[name] = policy
    return tables


def cleaning_script(saved: str, *, network: str = paths.CNI_NETWORK) -> str:
    """The iptables-restore script (for --noflush) that removes a node's chains and what jumps to them.

    Kubernetes' chains are those named KUBE-*: there is one kubelet a host. Those of CNI plugins (CNI-*) are
    shared with other users of CNI, so only chains that our network's rules mention are taken. Empty when
    there are none.
    """
    script: list[str] = []
    for table, lines in _sections(saved).items():
        declared = [line[1:].split()[0] for line in lines if line.startswith(":")]
        ours = {name for name in declared if name.startswith("KUBE-")} | _cni_chains(lines, declared, network)
        if not ours:
            continue
        script.append(f"*{table}")
        script += [f":{name} - [0:0]" for name in declared if name in ours]  # in such a script this flushes
        for line in lines:
            if line.startswith("-A ") and line.split()[1] not in ours and _jump(line) in ours:
                script.append("-D " + line.removeprefix("-A "))
        script += [f"-X {name}" for name in declared if name in ours]
        script.append("COMMIT")
    return "".join(f"{line}\n" for line in script)


def _sections(saved: str) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            lines = sections.setdefault(line[1:].strip(), [])
        elif line.startswith((":", "-A ")):
            lines.append(line)
    return sections


def _jump(rule: str) -> str:
    found = re.search(r" -[jg] (\S+)", rule)
    return found[1] if found else ""


def _cni_chains(lines: list[str], declared: list[str], network: str) -> set[str]:
    mine: set[str] = set()
    others: set[str] = set()
    for line in lines:
        if not line.startswith("-A "):
            continue
        marked = f'name: \\"{network}\\"' in line
        for chain in {line.split()[1], _jump(line)}:
            if chain in declared and re.fullmatch(r"CNI-(?:DN-)?[0-9a-f]+", chain):
                (mine if marked else others).add(chain)
    # A per-pod chain's own rules carry no comment: one marked rule anywhere decides. The shared chains of
    # host ports go only when no other network's chain is left for them.
    found = mine
    if not (others - mine):
        found |= {name for name in declared if name.startswith("CNI-HOSTPORT-")}
    return found


def record() -> dict[str, dict[str, dict[str, str]]]:
    """Family -> table -> chain -> policy, as they are now."""
    return {family: parse(_save(family)) for family in FAMILIES if shutil.which(f"{family}-save")}


def accept_forwarding() -> None:
    """Let the host forward pods' packets (Docker, among others, sets the policy to DROP)."""
    if parse(_save("iptables")).get("filter", {}).get("FORWARD") == "DROP":
        _run(["iptables", "-w", "-P", "FORWARD", "ACCEPT"])


def clean(before: object) -> None:
    """Remove a node's rules, put policies back and drop tables that came into being with it.

    ``before`` is what `record` gave; anything else means that it is unknown, and then only rules are removed.
    """
    for family in FAMILIES:
        if not shutil.which(f"{family}-save"):
            continue
        script = cleaning_script(_save(family))
        if script:
            _run([f"{family}-restore", "-w", "--noflush"], stdin=script)
        known = before.get(family) if isinstance(before, Mapping) else None
        if isinstance(known, Mapping):
            _restore_chains(family, known)


def _restore_chains(family: str, before: Mapping[str, Mapping[str, str]]) -> None:
    saved = _save(family)
    for table, chains in parse(saved).items():
        old = before.get(table, {})
        for chain, policy in chains.items():
            if chain in old and old[chain] not in (policy, "-"):
                _run([family, "-w", "-t", table, "-P", chain, old[chain]])
        rules = [line for line in _sections(saved).get(table, []) if line.startswith("-A ")]
        if not old and not rules and all(policy == "ACCEPT" for policy in chains.values()):
            # Empty tables show up in listings too. The legacy variant has no way to be rid of them.
            _run(["nft", "delete", "table", {"iptables": "ip", "ip6tables": "ip6"}[family], table])


def _save(family: str) -> str:
    return _run([f"{family}-save"])


def _run(command: list[str], *, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=30.0)
    return done.stdout
