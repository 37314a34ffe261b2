"""What the scripts under deploy/ have to know: names of the settings file for a shell, and what a month costs."""

import shlex
from decimal import Decimal

from tidesight.deploying.checks import check
from tidesight.deploying.plan import GOOGLE, Plan, plan
from tidesight.deploying.settings import ConfigFile
from tidesight.platforms.billing import MONTH_S, InstanceUse, Usage


def shell_values(config: ConfigFile, target: str) -> str:
    """Assignments for `eval`, one a line, quoted.

    Raises:
        ConfigError: what the target cannot do.
    """
    planned = plan(config, target)
    check(config, planned)
    deploy = config.deploy
    bucket = deploy.store.removeprefix("gs://").partition("/")[0] if deploy.store_scheme == "gs" else ""
    least, most = month_usd(planned)
    values = {
        "NAME": deploy.name, "IMAGE": deploy.image, "PROJECT": deploy.project, "REGION": deploy.region,
        "NAMESPACE": deploy.namespace, "ACCOUNT": deploy.account, "BUCKET": bucket, "KEYS_SECRET": deploy.keys_secret,
        "MAX_INSTANCES": str(planned.platform.scaling.bounds.most),
        "COST": f"{least:.0f} to {most:.0f} US$ a month" if target in GOOGLE else "",
    }  # fmt: skip
    return "\n".join(f"{key}={shlex.quote(value)}" for key, value in values.items())


def month_usd(planned: Plan) -> tuple[Decimal, Decimal]:
    """The bill of a month with the fewest instances and nothing asked, and of one with the most, busy all the time."""
    bounds = planned.platform.scaling.bounds
    month_s = float(MONTH_S)
    asked = InstanceUse(0, month_s, ready_s=0, busy_s=((0, month_s),))
    idle = InstanceUse(0, month_s, ready_s=0)
    billing = planned.platform.billing
    least = billing.bill(Usage(0, month_s, (idle,) * bounds.least))
    most = billing.bill(Usage(0, month_s, (asked,) * (bounds.most or bounds.least)))
    return least.usd, most.usd
