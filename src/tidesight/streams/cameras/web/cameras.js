// Pictures of all cameras come on one connection: [4 bytes: length of head][head: JSON][JPEG], again and again.

const cards = new Map();

function card(name) {
  if (!cards.has(name)) {
    const made = document.getElementById("camera").content.cloneNode(true).firstElementChild;
    made.querySelector("h2").textContent = name;
    made.querySelector("canvas").setAttribute("aria-label", `camera ${name}`);
    made.dataset.camera = name;
    document.getElementById("cameras").append(made);
    cards.set(name, made);
  }
  return cards.get(name);
}

async function draw(name, jpeg) {
  const canvas = card(name).querySelector("canvas");
  const picture = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  canvas.dataset.pictures = Number(canvas.dataset.pictures || 0) + 1;
}

class Bytes {
  constructor(reader) {
    this.reader = reader;
    this.held = new Uint8Array();
  }

  async take(count) {
    const parts = [this.held];
    let length = this.held.length;
    while (length < count) {
      const { done, value } = await this.reader.read();
      if (done) throw new Error("the connection ended");
      parts.push(value);
      length += value.length;
    }
    const whole = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    this.held = whole.subarray(count);
    return whole.subarray(0, count);
  }
}

async function follow() {
  const reply = await fetch("pictures");
  const bytes = new Bytes(reply.body.getReader());
  for (;;) {
    const length = await bytes.take(4);
    const head = JSON.parse(new TextDecoder().decode(await bytes.take(new DataView(length.buffer, length.byteOffset).getUint32(0))));
    await draw(head.camera, (await bytes.take(head.bytes)).slice());
  }
}

function show(status) {
  document.getElementById("fleet").textContent =
    `fleet: ${status.fleet} · ${status.in_flight} of ${status.limit} in flight`;
  for (const one of status.cameras) {
    const where = card(one.name);
    const values = {
      fps: `${one.fps.toFixed(1)} of ${one.target_fps}`,
      age: one.age_ms === null ? "–" : `${one.age_ms} ms (p99 ${one.age_p99_ms})`,
      jitter: `${one.jitter_ms} ms`,
      skipped: one.skipped,
      late: one.late,
      refused: one.refused,
      reconnects: one.reconnects,
    };
    for (const cell of where.querySelectorAll("dd")) cell.textContent = values[cell.dataset.of];
    where.classList.toggle("down", !one.up);
    where.querySelector(".trouble").textContent = one.up ? "" : one.trouble;
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function forever(work, pauseMs) {
  for (;;) {
    try {
      await work();
    } catch (error) {
      document.getElementById("fleet").textContent = `no connection: ${error.message}`;
    }
    await pause(pauseMs);
  }
}

forever(async () => show(await (await fetch("status.json")).json()), 1000);
forever(follow, 1000);
