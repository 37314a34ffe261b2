// Boxes and labels on a canvas that lies over the picture, in CSS pixels at the screen's own resolution.

const LABEL_HEIGHT_PX = 20;
const LABEL_PAD_PX = 6;
const EDGE_PX = 1.5;
const LABEL_FONT = '600 12px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif';
// Turning by the golden angle keeps the colours of neighbouring class numbers far apart.
const GOLDEN_ANGLE_DEG = 137.508;

/** The colour of a class, always the same for the same number, and the ink that reads on it. */
export function classColour(classId) {
  const hue = (198 + classId * GOLDEN_ANGLE_DEG) % 360;
  const lightness = [64, 52, 72][Math.floor(classId / 12) % 3];
  return { fill: `hsl(${hue.toFixed(1)} 82% ${lightness}%)`, ink: luminance(hue / 360, 0.82, lightness / 100) > 0.2 ? "#06151b" : "#ffffff" };
}

// Relative luminance as WCAG 2 defines it, of an HSL colour with all three in 0..1.
function luminance(hue, saturation, lightness) {
  const spread = saturation * Math.min(lightness, 1 - lightness);
  const linear = [0, 8, 4].map((offset) => {
    const k = (offset + hue * 12) % 12;
    const channel = lightness - spread * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

/** Draws detections and answers which one lies under a point. */
export class Overlay {
  #canvas;
  #detections = [];
  #size = { width: 1, height: 1 };
  #highlighted = -1;

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
  }

  /** Show `detections`, whose boxes are in pixels of a picture of `size` (`{width, height}`). */
  show(detections, size) {
    this.#detections = detections;
    this.#size = size;
    this.#highlighted = -1;
    this.#draw();
  }

  clear() {
    this.show([], this.#size);
  }

  /** Bring out the detection at `index`; -1 for none. */
  highlight(index) {
    if (index === this.#highlighted) return;
    this.#highlighted = index;
    this.#draw();
  }

  /** The index of the smallest box under a pointer event, or -1: the smallest is the one hardest to reach otherwise. */
  at(event) {
    const area = this.#canvas.getBoundingClientRect();
    const x = ((event.clientX - area.left) / area.width) * this.#size.width;
    const y = ((event.clientY - area.top) / area.height) * this.#size.height;
    let best = -1;
    let bestArea = Infinity;
    this.#detections.forEach(({ box: [x1, y1, x2, y2] }, index) => {
      const boxArea = (x2 - x1) * (y2 - y1);
      if (x >= x1 && x <= x2 && y >= y1 && y <= y2 && boxArea < bestArea) [best, bestArea] = [index, boxArea];
    });
    return best;
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const ratio = window.devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    const context = this.#canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = LABEL_FONT;
    context.textBaseline = "middle";
    const shapes = this.#detections.map((detection, index) => this.#shape(detection, index, width, height));
    [...shapes].reverse().filter((shape) => !shape.on).forEach((shape) => drawBox(context, shape, this.#highlighted >= 0));
    shapes.filter((shape) => shape.on).forEach((shape) => drawBox(context, shape, false));
    this.#drawLabels(context, shapes, width, height);
  }

  #shape({ box: [x1, y1, x2, y2], label, score, class_id: classId }, index, width, height) {
    // A box that reaches the picture's edge is drawn just inside it, where its line is not cut in half.
    const [left, right] = [x1, x2].map((x) => within(x * (width / this.#size.width), width));
    const [top, bottom] = [y1, y2].map((y) => within(y * (height / this.#size.height), height));
    return {
      x: left, y: top, width: right - left, height: bottom - top,
      text: `${label} ${score.toFixed(2)}`, colour: classColour(classId), on: index === this.#highlighted,
    };
  }

  // Labels never cover one another: the highlighted and then the surest get their place, and one without room
  // is left to the table and to the pointer.
  #drawLabels(context, shapes, width, height) {
    const taken = [];
    const order = [...shapes.filter((shape) => shape.on), ...shapes.filter((shape) => !shape.on)];
    for (const shape of order) {
      const size = Math.min(width, context.measureText(shape.text).width + 2 * LABEL_PAD_PX);
      const place = labelPlaces(shape, size, width, height).find((spot) => !taken.some((other) => overlaps(spot, other)));
      if (!place) continue;
      taken.push(place);
      drawLabel(context, shape, place, this.#highlighted >= 0 && !shape.on);
    }
  }
}

function within(value, size) {
  return Math.max(EDGE_PX, Math.min(value, size - EDGE_PX));
}

function labelPlaces(shape, width, canvasWidth, canvasHeight) {
  const lefts = [shape.x - 1, shape.x + shape.width - width + 1];
  const tops = [shape.y - LABEL_HEIGHT_PX, shape.y + 1, shape.y + shape.height, shape.y + shape.height - LABEL_HEIGHT_PX];
  return tops
    .filter((top) => top >= 0 && top + LABEL_HEIGHT_PX <= canvasHeight)
    .flatMap((top) => lefts.map((left) => ({
      x: Math.max(0, Math.min(left, canvasWidth - width)), y: top, width, height: LABEL_HEIGHT_PX,
    })));
}

function overlaps(a, b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

// The dark line under the coloured one keeps a box visible on a background of its own colour.
function drawBox(context, { x, y, width, height, colour, on }, dimmed) {
  context.globalAlpha = dimmed ? 0.3 : 1;
  context.lineJoin = "round";
  context.strokeStyle = "rgb(4 20 28 / 65%)";
  context.lineWidth = on ? 6 : 4;
  context.strokeRect(x, y, width, height);
  context.strokeStyle = colour.fill;
  context.lineWidth = on ? 3.5 : 2;
  context.strokeRect(x, y, width, height);
  if (on) {
    context.globalAlpha = 0.2;
    context.fillStyle = colour.fill;
    context.fillRect(x, y, width, height);
  }
  context.globalAlpha = 1;
}

function drawLabel(context, { text, colour }, place, dimmed) {
  context.globalAlpha = dimmed ? 0.45 : 1;
  context.fillStyle = colour.fill;
  context.beginPath();
  context.roundRect(place.x, place.y, place.width, place.height, 3);
  context.fill();
  context.fillStyle = colour.ink;
  context.fillText(text, place.x + LABEL_PAD_PX, place.y + place.height / 2 + 0.5, place.width - 2 * LABEL_PAD_PX);
  context.globalAlpha = 1;
}
