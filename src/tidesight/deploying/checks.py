"""What a target cannot do, found before anything is written: each refusal names the key and the remedy."""

from collections.abc import Callable, Iterator

from tidesight.deploying.plan import CLOSING_S, GOOGLE, KUBERNETES, Plan
from tidesight.deploying.settings import ConfigFile

_MIB = 2**20
BODY_SHARE = 4  # of the memory, for bodies that wait: the rule of `serving.memory`
PROGRAM_MIB = 192  # program, engine, embedded model and one worker; `tidesight doctor` says what yours needs

Trouble = tuple[str, str]
"""Key of `[deploy]`, and what is wrong with the remedy."""


def check(config: ConfigFile, plan: Plan) -> None:
    """Refuse what the target cannot do.

    Raises:
        ConfigError: the first trouble, with its line.
    """
    for rule in _RULES:
        for key, detail in rule(plan):
            raise config.error(f"{key}: {detail}", "deploy", key)


def _image(plan: Plan) -> Iterator[Trouble]:
    image = plan.deploy.image
    if plan.target == "app-engine-standard":
        return
    if not image:
        yield (
            "image",
            f"{plan.target} runs a container; build one (docs/guides/deploy.md) and set image = 'HOST/NAME:TAG'",
        )
    elif "@sha256:" not in image and ":" not in image.rpartition("/")[2]:
        yield "image", f"{image} has no tag, so a machine may run an old one it has; append :TAG or @sha256:..."
    elif image != image.lower().strip() and "@" not in image:
        yield "image", f"{image!r}: expected lower case and no spaces, as registries want it"


def _project(plan: Plan) -> Iterator[Trouble]:
    if plan.target in GOOGLE and not plan.deploy.project and not plan.deploy.service_account:
        yield "project", "set the Google Cloud project, or service_account (instances never run as the default account)"


def _zero(plan: Plan) -> Iterator[Trouble]:
    if plan.target in KUBERNETES and plan.deploy.min_instances < 1:
        yield "min_instances", "nothing holds a request while there are no pods: set 1, or use cloud-run"
    if plan.target == "app-engine-flex" and plan.deploy.min_instances < 1:
        yield "min_instances", "the flexible environment never goes to zero: set 1, or use cloud-run"


def _scaling(plan: Plan) -> Iterator[Trouble]:
    deploy = plan.deploy
    if plan.target not in KUBERNETES:
        if deploy.scaling != "cpu":
            told = f"{plan.target} scales by its own rule, {deploy.scaling!r} is for gke and kubernetes: set 'cpu'"
            yield "scaling", told
        return
    most = deploy.concurrency if deploy.scaling in ("in-flight", "keda") else deploy.concurrency - plan.threads
    if deploy.scaling in ("in-flight", "queue", "keda") and deploy.target > most:
        told = f"{deploy.target:g} is never reached, an instance takes {most} at most: lower it or raise concurrency"
        yield "target", told


def _memory(plan: Plan) -> Iterator[Trouble]:
    deploy, memory_mib = plan.deploy, plan.platform.instance.memory_gib * 1024
    if memory_mib < PROGRAM_MIB * 4 / 3:
        yield "memory_gib", f"{memory_mib:g} MiB are too few for one worker: set at least {PROGRAM_MIB * 4 / 3072:.2g}"
        return
    most = int(memory_mib / BODY_SHARE / deploy.max_body_mib)
    if deploy.concurrency > max(1, most):
        told = f"{deploy.concurrency} bodies of {deploy.max_body_mib:g} MiB do not fit a quarter of {memory_mib:g} MiB"
        yield "concurrency", f"{told}: set at most {max(1, most)}, or lower max_body_mib, or raise memory_gib"


def _class(plan: Plan) -> Iterator[Trouble]:
    if plan.target != "app-engine-standard":
        return
    has = plan.platform.instance
    name = plan.number["instance_class"]
    if has.memory_gib < plan.deploy.memory_gib or has.vcpu < plan.deploy.vcpu:
        told = f"{name} has {has.vcpu:g} vCPU and {has.memory_gib:g} GiB, the standard environment no more"
        yield "memory_gib", f"{told}: lower vcpu and memory_gib, or use app-engine-flex or cloud-run"


def _end(plan: Plan) -> Iterator[Trouble]:
    deploy, whole_s = plan.deploy, plan.platform.drain.grace_s
    if plan.grace_s < deploy.deadline_s:
        left = f"{plan.target} kills {whole_s:g} s after SIGTERM, of which {plan.grace_s:g} s are left for requests"
        more = f" ({plan.store_drain_s:g} s for uploads, {CLOSING_S:g} s to end)"
        fix = f"lower deadline_s to {max(plan.grace_s, 0):g}"
        raise_it = f", or raise grace_s in [platform.{plan.platform.name}]" if plan.target in KUBERNETES else ""
        yield "deadline_s", f"{deploy.deadline_s:g} s is longer than the drain: {left}{more}; {fix}{raise_it}"


def _store(plan: Plan) -> Iterator[Trouble]:
    deploy, kind = plan.deploy, plan.deploy.store_scheme
    if kind == "folder" and plan.target != "compose":
        yield "store", f"{deploy.store!r} is on the instance and gone with it on {plan.target}: set gs://BUCKET/PREFIX"
    if kind in ("gs", "s3") and plan.target == "compose":
        yield "store", f"{kind}:// needs credentials that a rendered compose.yaml cannot hold: set a folder, 'results'"
    if kind == "s3" and plan.target in GOOGLE and plan.target != "gke":
        yield "store", f"{plan.target} has no credentials for s3://: set gs://BUCKET/PREFIX"
    if kind == "s3" and plan.target in KUBERNETES and not deploy.store_secret:
        yield "store_secret", "s3:// needs credentials: name a secret that has AWS_ACCESS_KEY_ID and its fellows"
    if deploy.store_mode == "async" and not kind:
        yield "store_mode", "async keeps results for a store, and there is none: set store"
    if deploy.store_mode == "async" and plan.target == "app-engine-standard":
        yield "store_mode", "the standard environment has no disk for results that wait: set 'sync'"


def _keys(plan: Plan) -> Iterator[Trouble]:
    if plan.deploy.keys_secret and plan.target.startswith("app-engine"):
        told = "App Engine mounts no secrets: leave it empty and put Identity-Aware Proxy in front, or use cloud-run"
        yield "keys_secret", told


_RULES: tuple[Callable[[Plan], Iterator[Trouble]], ...] = (
    _image, _project, _zero, _scaling, _memory, _class, _store, _end, _keys,
)  # fmt: skip
