"""Checks the manifests given as arguments against the schemas of Kubernetes and of the operators.

Prints a JSON object a command line in them ({"file", "where", "words"}) to stdout, and a line a fault to stderr; ends
with 1 where there is a fault. Unknown fields are faults. Sources: kubernetes-validate for what Kubernetes has built in,
and for the pod template inside every other kind; kubeflow_trainer_api's models for Trainer and JobSet; FIELDS below for
MPIJob and Volcano, whose schemas no package ships.
"""

import json
import sys

import kubernetes_validate
import yaml
from kubeflow_trainer_api import models

KUBERNETES = "1.35"

MODELS = {
    "TrainJob": models.TrainerV1alpha1TrainJob,
    "ClusterTrainingRuntime": models.TrainerV1alpha1ClusterTrainingRuntime,
    "JobSet": models.JobsetV1alpha2JobSet,
}

# Field -> its type, a set of words it may be, or what is in it; "*" stands for any name, [x] for a list of x, and a
# field whose name ends in "!" must be there. Templates of pods are left to the schema of Kubernetes. From the operators'
# own API types, see the project's notes on operators.
POD = object()
REPLICAS = {"replicas": int, "restartPolicy": {"Never", "OnFailure"}, "template!": POD}
POLICIES = [{"event": {"TaskCompleted", "PodFailed", "PodEvicted", "*"}, "exitCode": int, "timeout": str,
             "action!": {"AbortJob", "RestartJob", "CompleteJob", "TerminateJob", "RestartTask"}}]
MPI = {"OpenMPI", "Intel", "MPICH"}
FIELDS = {
    ("kubeflow.org/v2beta1", "MPIJob"): {
        "slotsPerWorker": int,
        "runLauncherAsWorker": bool,
        "sshAuthMountPath": str,
        "launcherCreationPolicy": {"AtStartup", "WaitForWorkersReady"},
        "mpiImplementation": MPI,
        "runPolicy": {"cleanPodPolicy": {"None", "Running", "All"}, "backoffLimit": int, "activeDeadlineSeconds": int,
                      "ttlSecondsAfterFinished": int, "suspend": bool},
        "mpiReplicaSpecs!": {"Launcher!": {**REPLICAS, "replicas": {1}}, "Worker": REPLICAS},
    },
    ("batch.volcano.sh/v1alpha1", "Job"): {
        "schedulerName": str,
        "minAvailable": int,
        "maxRetry": int,
        "queue": str,
        "plugins": {plugin: [str] for plugin in ("ssh", "svc", "env", "mpi")},
        "policies": POLICIES,
        "tasks!": [{"name!": str, "replicas": int, "policies": POLICIES, "template!": POD}],
    },
}
# What the models take any text for: (field's name, its words).
WORDS = {
    "mpiImplementation": MPI,
    "operator": {"All", "Any", "In", "NotIn"},
    "action": {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts", "FailJob", "FailIndex", "Ignore", "Count"},
    "onJobFailureReasons": {"BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded",
                            "PodFailurePolicy"},
}
ANCESTOR = "trainer.kubeflow.org/trainjob-ancestor-step"


def main(files):
    faults = 0
    for file in files:
        with open(file, encoding="utf-8") as text:
            try:
                documents = list(yaml.load_all(text, Loader=Strict))
            except yaml.YAMLError as error:
                print(f"{file}: {' '.join(str(error).split())}", file=sys.stderr)
                faults += 1
                continue
            for document in documents:
                for fault in check(document):
                    print(f"{file}: {document.get('kind')}: {fault}", file=sys.stderr)
                    faults += 1
                for where, words in commands(document, document.get("kind")):
                    print(json.dumps({"file": file, "where": where, "words": words}))
    return 1 if faults else 0


class Strict(yaml.SafeLoader):
    """Takes no key twice, which YAML forbids and the loader does not mind."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        if len(set(keys)) < len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def check(document):
    """Every fault of a document, as text."""
    kind = (document.get("apiVersion"), document.get("kind"))
    if kind in FIELDS:
        yield from head(document)
        yield from compare(document.get("spec") or {}, FIELDS[kind], "spec")
    elif kind[1] in MODELS:
        yield from by_model(document, MODELS[kind[1]])
        yield from words(document, "")
    else:
        yield from by_schema(document, "")
        return
    yield from by_operator(document)
    found = list(templates(document, kind[1]))
    if not found and kind[1] != "TrainJob":
        yield "no pod template"
    for where, template in found:
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        yield from by_schema(pod, where)


def by_schema(document, where):
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{where}{'.'.join(str(part) for part in error.path)}: {' '.join(error.message.split())}"


def by_model(document, model):
    """The models drop what they do not know, so that what is missing afterwards was not known."""
    try:
        read = model.from_dict(document).to_dict()
    except ValueError as error:
        yield " ".join(str(error).split())
        return
    yield from lost(document, read, "")


def words(value, where):
    """Holds texts to WORDS."""
    if isinstance(value, dict):
        for name, inner in value.items():
            given = inner if isinstance(inner, list) else [inner]
            if name in WORDS and all(isinstance(word, str) for word in given):
                for word in given:
                    if word not in WORDS[name]:
                        yield f"{where}{name}: {word!r} is none of {', '.join(sorted(WORDS[name]))}"
            yield from words(inner, f"{where}{name}.")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from words(inner, f"{where}{number}.")


def by_operator(document):
    """What an operator refuses, or makes of a manifest, beyond its types."""
    spec = document.get("spec") or {}
    match document["kind"]:
        case "Job":
            tasks = spec.get("tasks") or []
            if spec.get("minAvailable", 0) > sum(task.get("replicas", 1) for task in tasks):
                yield "spec.minAvailable: more than all tasks have"
            for policy in (policy for part in [spec, *tasks] for policy in part.get("policies") or []):
                if ("event" in policy) == ("exitCode" in policy):
                    yield f"{policy}: a policy is for an event or for an exit code"
        case "JobSet":
            if not spec.get("replicatedJobs"):
                yield "spec.replicatedJobs: missing"
        case "ClusterTrainingRuntime":
            for where, template in templates(spec, "spec"):
                user = template["spec"].get("securityContext") or {}
                users = [user] + [one.get("securityContext") or {} for one in template["spec"]["containers"]]
                if any(one.get("runAsUser") for one in users) and not user.get("fsGroup"):
                    yield f"{where}no fsGroup: the key is root's, mode 0640"
            # The count of nodes is that of the job which has this label.
            labels = [job["template"].get("metadata", {}).get("labels", {}) for job in spec["template"]["spec"]["replicatedJobs"]
                      if job["name"] == "launcher"]
            if any(ANCESTOR in of for of in labels) and spec["mlPolicy"].get("numNodes", 1) != 1:
                yield "spec.mlPolicy.numNodes: so many launchers"


def lost(given, read, where):
    if isinstance(given, dict):
        for name, value in given.items():
            if not isinstance(read, dict) or name not in read:
                yield f"{where}{name}: no such field"
            else:
                yield from lost(value, read[name], f"{where}{name}.")
    elif isinstance(given, list):
        for number, value in enumerate(given):
            yield from lost(value, read[number], f"{where}{number}.")


def head(document):
    for name in document.keys() - {"apiVersion", "kind", "metadata", "spec"}:
        yield f"{name}: no such field"
    if not document.get("metadata", {}).get("name"):
        yield "metadata.name: missing"


def compare(given, wanted, where):
    """Holds a value to a table of fields."""
    if wanted is POD:
        if not ((given or {}).get("spec") or {}).get("containers"):
            yield f"{where}.spec.containers: missing"
        return
    if isinstance(wanted, dict) and isinstance(given, dict):
        for name in wanted:
            if name.endswith("!") and not given.get(name[:-1]):
                yield f"{where}.{name[:-1]}: missing"
        for name, value in given.items():
            inner = wanted.get(name, wanted.get(f"{name}!", wanted.get("*")))
            if inner is None:
                yield f"{where}.{name}: no such field"
            else:
                yield from compare(value, inner, f"{where}.{name}")
    elif isinstance(wanted, list) and isinstance(given, list):
        for number, value in enumerate(given):
            yield from compare(value, wanted[0], f"{where}.{number}")
    elif isinstance(wanted, set):
        if given not in wanted:
            yield f"{where}: {given!r} is none of {', '.join(sorted(map(str, wanted)))}"
    elif not (isinstance(wanted, type) and type(given) is wanted):
        yield f"{where}: {given!r} is of the wrong type"


def templates(value, where):
    """Every pod template: what has a spec with containers."""
    if isinstance(value, dict):
        if isinstance(value.get("spec"), dict) and "containers" in value["spec"]:
            yield f"{where}: ", value
            return
        for name, inner in value.items():
            yield from templates(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from templates(inner, f"{where}.{number}")


def commands(value, where):
    """Every command line: of containers, which have muster for an entrypoint, and of probes and hooks."""
    if isinstance(value, dict):
        words = value.get("command", ["muster"] if "image" in value else []) + value.get("args", [])
        if words and all(isinstance(word, str) for word in words):
            yield where, words
        for name, inner in value.items():
            yield from commands(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from commands(inner, f"{where}.{number}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
