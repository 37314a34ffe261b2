"""A load as a JMeter 5 test plan (.jmx)."""

from collections.abc import Sequence
from itertools import pairwise
from xml.etree import ElementTree

from tidesight.loadtest.plan import Load
from tidesight.loadtest.target import Target
from tidesight.workload.arrivals import RateCurve, Spacing
from tidesight.workload.scenario import Users

RESULTS = "results.jtl"
BODIES = "bodies.csv"
# In each line of the results; what a row needs.
_SAVED = {
    "time": True, "latency": True, "timestamp": True, "success": True, "label": True, "code": True, "message": True,
    "threadName": True, "dataType": False, "encoding": False, "assertions": False, "subresults": False,
    "responseData": False, "samplerData": False, "xml": False, "fieldNames": True, "responseHeaders": False,
    "requestHeaders": False, "responseDataOnError": False, "saveAssertionResultsFailureMessage": False, "bytes": True,
    "sentBytes": True, "threadCounts": False, "connectTime": True,
}  # fmt: skip
_Element = ElementTree.Element


def jmx(load: Load, connect_s: float = 5.0) -> bytes:
    """The whole file; it reads `BODIES` beside it and writes `RESULTS`."""
    root = _Element("jmeterTestPlan", version="1.2", properties="5.0", jmeter="5.5")
    plan_tree = _tree(_tree(root), _plan())
    group = _users(load.pattern, load.duration_s) if isinstance(load.pattern, Users) else _open(load)
    tree = _tree(plan_tree, group)
    _tree(tree, _bodies())
    _tree(tree, _headers(load.target))
    sampler_tree = _tree(tree, _sampler(load, connect_s))
    if isinstance(load.pattern, Users) and load.pattern.think_s:
        timer = _element("ConstantTimer", "ConstantTimerGui", "think")
        _prop(timer, "ConstantTimer.delay", f"{1000 * load.pattern.think_s:.0f}")
        _tree(sampler_tree, timer)
    _tree(plan_tree, _collector())
    ElementTree.indent(root)
    whole: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return whole


def schedule(curve: RateCurve, spacing: Spacing, wait_s: float) -> str:
    """A rate over time in the words of JMeter's Open Model Thread Group.

    Args:
        curve: The rate.
        spacing: Of the arrivals.
        wait_s: How long requests that are under way at the end are waited for.
    """
    arrivals = "random_arrivals" if spacing == "poisson" else "even_arrivals"
    words = []
    for (start_s, a), (end_s, b) in pairwise(curve.points):
        if end_s > start_s:
            milliseconds = round(1000 * (end_s - start_s))
            words += [f"rate({a:.6f}/sec) {arrivals}({milliseconds} ms) rate({b:.6f}/sec)"]
    return " ".join([*words, f"pause({round(1000 * wait_s)} ms)"])


def _open(load: Load) -> _Element:
    assert not isinstance(load.pattern, Users)
    package = "org.apache.jmeter.threads.openmodel"
    group = _element("OpenModelThreadGroup", f"{package}.gui.OpenModelThreadGroupGui", "arrivals", package)
    controller = f"{package}.OpenModelThreadGroupController"
    ElementTree.SubElement(
        group, "elementProp", name="ThreadGroup.main_controller", elementType=controller, testclass=controller
    )
    _prop(group, "ThreadGroup.on_sample_error", "continue")
    words = schedule(load.pattern.curve(load.duration_s), load.pattern.spacing, load.timeout_s)
    _prop(group, "OpenModelThreadGroup.schedule", words)
    _prop(group, "OpenModelThreadGroup.random_seed", str(load.seed))
    return group


def _users(users: Users, duration_s: float) -> _Element:
    group = _element("ThreadGroup", "ThreadGroupGui", "users")
    loop = ElementTree.SubElement(
        group, "elementProp", name="ThreadGroup.main_controller", elementType="LoopController",
        guiclass="LoopControlPanel", testclass="LoopController",
    )  # fmt: skip
    _prop(loop, "LoopController.continue_forever", False)
    _prop(loop, "LoopController.loops", -1)
    _prop(group, "ThreadGroup.on_sample_error", "continue")
    _prop(group, "ThreadGroup.num_threads", str(users.users))
    _prop(group, "ThreadGroup.ramp_time", f"{users.users / users.spawn_per_s:.0f}")
    _prop(group, "ThreadGroup.scheduler", True)
    _prop(group, "ThreadGroup.duration", f"{duration_s:.0f}")
    _prop(group, "ThreadGroup.delay", "0")
    _prop(group, "ThreadGroup.same_user_on_next_iteration", True)
    return group


def _plan() -> _Element:
    plan = _element("TestPlan", "TestPlanGui", "Tidesight load")
    _prop(plan, "TestPlan.functional_mode", False)
    _prop(plan, "TestPlan.serialize_threadgroups", False)
    variables = ElementTree.SubElement(
        plan, "elementProp", name="TestPlan.user_defined_variables", elementType="Arguments",
        guiclass="ArgumentsPanel", testclass="Arguments",
    )  # fmt: skip
    ElementTree.SubElement(variables, "collectionProp", name="Arguments.arguments")
    return plan


def _bodies() -> _Element:
    data = _element("CSVDataSet", "TestBeanGUI", "bodies")
    texts = {"filename": BODIES, "fileEncoding": "UTF-8", "variableNames": "file,type", "delimiter": ","}
    for name, text in {**texts, "shareMode": "shareMode.all"}.items():
        _prop(data, name, text)
    for name, flag in {"ignoreFirstLine": False, "quotedData": True, "recycle": True, "stopThread": False}.items():
        _prop(data, name, flag)
    return data


def _headers(target: Target) -> _Element:
    manager = _element("HeaderManager", "HeaderPanel", "headers")
    headers = ElementTree.SubElement(manager, "collectionProp", name="HeaderManager.headers")
    for name, value in {**target.headers, "Content-Type": "${type}"}.items():
        one = ElementTree.SubElement(headers, "elementProp", name=name, elementType="Header")
        _prop(one, "Header.name", name)
        _prop(one, "Header.value", value)
    return manager


def _sampler(load: Load, connect_s: float) -> _Element:
    target = load.target
    sampler = _element("HTTPSamplerProxy", "HttpTestSampleGui", "detect")
    arguments = ElementTree.SubElement(
        sampler, "elementProp", name="HTTPsampler.Arguments", elementType="Arguments", guiclass="HTTPArgumentsPanel",
        testclass="Arguments",
    )  # fmt: skip
    ElementTree.SubElement(arguments, "collectionProp", name="Arguments.arguments")
    files = ElementTree.SubElement(sampler, "elementProp", name="HTTPsampler.Files", elementType="HTTPFileArgs")
    listed = ElementTree.SubElement(files, "collectionProp", name="HTTPFileArgs.files")
    # One file without a parameter's name is sent as the whole body, as it is.
    one = ElementTree.SubElement(listed, "elementProp", name="${file}", elementType="HTTPFileArg")
    for name, text in {"File.path": "${file}", "File.paramname": "", "File.mimetype": "${type}"}.items():
        _prop(one, name, text)
    texts = {
        "domain": target.host, "port": str(target.port), "protocol": "https" if target.tls else "http",
        "path": target.path, "method": "POST", "implementation": "HttpClient4",
        "connect_timeout": f"{1000 * min(connect_s, load.timeout_s):.0f}",
        "response_timeout": f"{1000 * load.timeout_s:.0f}",
    }  # fmt: skip
    for name, text in texts.items():
        _prop(sampler, f"HTTPSampler.{name}", text)
    flags = {"follow_redirects": False, "auto_redirects": False, "use_keepalive": True, "DO_MULTIPART_POST": False}
    for name, flag in flags.items():
        _prop(sampler, f"HTTPSampler.{name}", flag)
    return sampler


def _collector() -> _Element:
    collector = _element("ResultCollector", "SimpleDataWriter", "results")
    _prop(collector, "ResultCollector.error_logging", False)
    held = ElementTree.SubElement(collector, "objProp")
    ElementTree.SubElement(held, "name").text = "saveConfig"
    value = ElementTree.SubElement(held, "value")
    value.set("class", "SampleSaveConfiguration")
    for name, saved in _SAVED.items():
        ElementTree.SubElement(value, name).text = _text(saved)
    ElementTree.SubElement(value, "assertionsResultsToSave").text = "0"
    _prop(collector, "filename", RESULTS)
    return collector


def _element(kind: str, gui: str, name: str, package: str = "") -> _Element:
    whole = f"{package}.{kind}" if package else kind
    return _Element(whole, guiclass=gui, testclass=whole, testname=name, enabled="true")


def _tree(parent: _Element, element: _Element | None = None) -> _Element:
    """Put an element into a tree; the tree of what is below it."""
    if element is not None:
        parent.append(element)
    return ElementTree.SubElement(parent, "hashTree")


def _prop(parent: _Element, name: str, value: str | bool | int) -> None:
    kind = "boolProp" if isinstance(value, bool) else "intProp" if isinstance(value, int) else "stringProp"
    ElementTree.SubElement(parent, kind, name=name).text = _text(value)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def bodies_csv(names: Sequence[str], types: Sequence[str]) -> str:
    """The lines of `BODIES`: file and content type."""
    return "".join(f'{name},"{kind}"\n' for name, kind in zip(names, types, strict=True))
