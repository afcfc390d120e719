"""Turns rendered Kubernetes manifests into what `podman play kube` can run, and plays the kubelet where podman does not.

usage: pods.py pods RENDERED SECRETS ADDRESSES OUT     one file a pod in OUT, with the config maps and secrets it mounts
       pods.py probes RENDERED NAME                    the HTTP probes of a pod, as PORT/PATH, one a line

The pod templates stay as they are, but for: probes (podman has no scheduler for them, the test asks them itself), names that a
cluster's DNS would resolve (host aliases, from ADDRESSES: lines of name and address), and the CA of the sample directory.
"""
import base64
import pathlib
import sys

import yaml

KINDS = ("Deployment", "StatefulSet")


def main():
    command, rendered, *rest = sys.argv[1:]
    documents = [document for document in yaml.safe_load_all(pathlib.Path(rendered).read_text()) if document]
    if command == "pods":
        secrets, addresses, out = rest
        write_pods(documents, pathlib.Path(secrets), pathlib.Path(addresses).read_text(), pathlib.Path(out))
    else:
        for template in templates(documents):
            if template["metadata"]["name"] == rest[0]:
                print_probes(template["spec"]["template"]["spec"]["containers"][0])


def templates(documents):
    return [document for document in documents if document["kind"] in KINDS]


def write_pods(documents, secrets, addresses, out):
    out.mkdir(parents=True, exist_ok=True)
    aliases = {}
    for line in addresses.splitlines():
        name, address = line.split()
        aliases.setdefault(address, []).append(name)
    hosts = [{"ip": address, "hostnames": names} for address, names in aliases.items()]
    maps = {document["metadata"]["name"]: document for document in documents if document["kind"] == "ConfigMap"}
    for document in templates(documents):
        name, spec = document["metadata"]["name"], document["spec"]["template"]["spec"]
        spec["hostAliases"] = hosts
        container = spec["containers"][0]
        container["imagePullPolicy"] = "Never"
        container["image"] = full(container["image"])
        # Ports only inform; podman 4.3 would publish them on the host, where two pods cannot have the same.
        for field in ("startupProbe", "livenessProbe", "readinessProbe", "ports"):
            container.pop(field, None)
        for variable in container.get("env", []):
            if variable["name"] == "SSL_CERT_FILE":
                variable["value"] = "/run/secrets/twinlock/ca.crt"
        for claim in document["spec"].get("volumeClaimTemplates", []):
            spec["volumes"].append({"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": name}})
        beside = []
        for volume in spec["volumes"]:
            if "configMap" in volume:
                beside.append(maps[volume["configMap"]["name"]])
            if "secret" in volume:
                beside.append(secret(volume["secret"]["secretName"], secrets))
                volume["secret"]["optional"] = False  # the default; podman 4.3 reads it without looking whether it is there
        for number in (1, 2):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-{number}"}, "spec": spec}
            (out / f"{name}-{number}.yaml").write_text(yaml.safe_dump_all([*beside, pod], sort_keys=False))


def full(image):
    """As the container engines of clusters complete a name."""
    registry = image.split("/")[0]
    if "/" not in image:
        return f"docker.io/library/{image}"
    return image if "." in registry else f"docker.io/{image}"


def secret(name, secrets):
    folder = secrets / name.removeprefix("twinlock-")
    data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in sorted(folder.iterdir())}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "data": data}


def print_probes(container):
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container.get(kind, {}).get("httpGet")
        if get:
            print(f"{ports.get(get['port'], get['port'])}{get['path']}")


main()
