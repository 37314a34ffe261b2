// The points of the charts: columns of bounded length, a point a second.

const MOST_POINTS = 600;

/** Columns by the names that the server gives them; `columns.at_s` is the time of each point. */
export class Series {
  columns = { at_s: [] };

  /** Begin with what the server remembers; later points that came meanwhile stay. */
  load(columns) {
    const newest = columns.at_s.at(-1) ?? -Infinity;
    const later = this.#points().filter((point) => point.at_s > newest);
    this.columns = columns;
    later.forEach((point) => this.add(point));
  }

  /** Add a point, in place of the last one while that is less than a second after the one before. */
  add(point) {
    const times = this.columns.at_s;
    if (times.length && point.at_s <= times.at(-1)) return;
    const replaces = times.length > 1 && times.at(-1) - times.at(-2) < 1;
    for (const [name, value] of Object.entries(point)) {
      const column = (this.columns[name] ??= []);
      if (replaces) column[column.length - 1] = value;
      else column.push(value);
      if (column.length > MOST_POINTS) column.shift();
    }
  }

  #points() {
    const names = Object.keys(this.columns);
    return this.columns.at_s.map((_, at) => Object.fromEntries(names.map((name) => [name, this.columns[name][at]])));
  }
}
