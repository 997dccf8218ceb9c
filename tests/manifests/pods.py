"""Prints the Pods that the Job controller would make of an Indexed Job, a JSON object a line.

Arguments: the manifest, a prefix for the names of pods, their image, the directory that stands in for every Secret, the
program of the job, and a name server. What podman lacks is replaced: a Secret and the image's program by paths of this
machine, cluster DNS by the name server.
"""

import json
import sys

import yaml

manifest, prefix, image, secret, program, server = sys.argv[1:]
with open(manifest, encoding="utf-8") as text:
    job = next(document for document in yaml.safe_load_all(text) if document["kind"] == "Job")
for index in range(job["spec"]["completions"]):
    name = f"{job['metadata']['name']}-{index}"
    spec = json.loads(json.dumps(job["spec"]["template"]["spec"]))
    spec["hostname"] = name
    spec["dnsPolicy"] = "None"
    spec["dnsConfig"] = {
        "nameservers": [server],
        "searches": ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"],
        "options": [{"name": "ndots", "value": "5"}],
    }
    for volume in spec["volumes"]:
        if volume.pop("secret", None):
            volume["hostPath"] = {"path": secret, "type": "Directory"}
    spec["volumes"].append({"name": "program", "hostPath": {"path": program, "type": "File"}})
    for container in spec["containers"]:
        container["image"] = image
        container["imagePullPolicy"] = "Never"
        container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
        container["volumeMounts"].append({"name": "program", "mountPath": "/home/mpiuser/pi"})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": prefix + name, "labels": {"app": name}}, "spec": spec}
    print(json.dumps(pod))
