// The page: what comes by the stream goes to each part of it.

import { Charts } from "./charts.js";
import { Connection } from "./connection.js";
import { Announcer, Decisions } from "./decisions.js";
import { InstanceTable } from "./instances.js";
import { showBackOffs, showOverview } from "./overview.js";
import { showScale, wireScale } from "./scale.js";
import { Series } from "./series.js";

let series = new Series();
let latest = null;
const decisions = new Decisions();
const announcer = new Announcer();
const instances = new InstanceTable();
const charts = new Charts();

/** A page that was opened late, or was without the stream for a while, gets what it missed. */
async function catchUp() {
  try {
    const reply = await fetch("api/history");
    if (!reply.ok) return;
    const past = await reply.json();
    series.load(past.points);
    decisions.add(past.decisions);
    draw();
  } catch { /* the stream is lost again; the next one asks again */ }
}

function onSnapshot(snapshot) {
  if (latest && snapshot.at_s < latest.at_s) startAfresh();
  latest = snapshot;
  document.body.dataset.known = "";
  showOverview(snapshot);
  showBackOffs(snapshot.back_offs);
  showScale(snapshot);
  instances.show(snapshot.instances);
  decisions.add(snapshot.decisions);
  announcer.hear(snapshot);
}

/** Another fleet answers here now: what is known is of the one before. */
function startAfresh() {
  series = new Series();
  decisions.clear();
  catchUp();
}

function onPoint(point) {
  series.add(point);
  draw();
}

function draw() {
  charts.show(series.columns, decisions.all);
}

wireScale();
charts.load(draw);
new Connection({ onOpen: catchUp, onSnapshot, onPoint }).open();
