// What a page can do beyond being read. Without this script nothing on it is missing. Texts go from element to element as
// text, never as HTML: names in a sweep may come from a stranger.
"use strict";
(() => {
  document.documentElement.classList.add("alive");
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  // A text in the language of the page; each %s is one of the values.
  const _ = (text, ...values) => values.reduce((filled, value) => filled.replace("%s", () => value), data.texts[text]);
  const make = (tag, text = "", properties = {}) => Object.assign(document.createElement(tag), { textContent: text }, properties);
  const button = (text, label, act) => {
    const made = make("button", text, { type: "button" });
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  };
  const numbers = new Intl.NumberFormat(data.language, { maximumSignificantDigits: 5 });

  const save = (name, blob) => {
    const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  // --- One selection: what the legend and the filters of the tables leave is in every table and every figure.

  const off = new Set(); // Items of the legend that are switched off.
  const tables = all("table.cards").map((table) => ({ table, words: [], rows: [...table.tBodies[0].rows], count: null }));
  const shown = { runs: new Set(), configurations: new Set() };

  const matches = ({ words }, row) => {
    row.wording ??= row.textContent.toLowerCase();
    return words.every((word) => row.wording.includes(word));
  };
  const select = () => {
    const hidden = new Set([...off].flatMap((item) => item.of));
    const kept = { run: null, configuration: null };
    for (const each of tables.filter((each) => each.words.length))
      for (const kind of ["run", "configuration"]) {
        const rows = each.rows.filter((row) => row.dataset[kind] !== undefined);
        if (!rows.length) continue;
        const names = rows.filter((row) => matches(each, row)).map((row) => row.dataset[kind]);
        kept[kind] = new Set(kept[kind] ? names.filter((name) => kept[kind].has(name)) : names);
      }
    shown.runs = new Set(Object.entries(data.runs)
      .filter(([run, number]) => !hidden.has(number) && (!kept.run || kept.run.has(run))
        && (!kept.configuration || kept.configuration.has(data.configurations[number])))
      .map(([run]) => run));
    shown.configurations = new Set([...shown.runs].map((run) => data.configurations[data.runs[run]]));
    for (const each of tables) {
      let visible = 0;
      for (const row of each.rows) {
        const { run, configuration } = row.dataset;
        const known = run !== undefined ? run in data.runs : data.configurations.includes(configuration);
        const is = run !== undefined ? shown.runs.has(run) : shown.configurations.has(configuration);
        row.hidden = known ? !is || !matches(each, row) : !matches(each, row);
        visible += row.hidden ? 0 : 1;
      }
      if (each.count) each.count.textContent = visible < each.rows.length ? ` ${_("%s of %s", visible, each.rows.length)}` : "";
    }
    for (const figure of figures.values()) figure.filter();
  };

  const legend = document.getElementById("legend");
  if (legend && data.legend.length) {
    const switches = [];
    for (const { title, items } of data.legend) {
      const group = make("div", "", { className: "keys" });
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", `${_("Show")} ${title}`.trim());
      group.append(make("span", title || _("Show")));
      for (const item of items) {
        const made = button(item.label, null, () => {
          off.has(item) ? off.delete(item) : off.add(item);
          made.setAttribute("aria-pressed", String(!off.has(item)));
          select();
        });
        made.setAttribute("aria-pressed", "true");
        if (item.color) made.style.setProperty("--key", item.color);
        switches.push(made);
        group.append(made);
      }
      legend.append(group);
    }
    legend.lastChild.append(button(_("all"), null, () => {
      off.clear();
      switches.forEach((each) => each.setAttribute("aria-pressed", "true"));
      select();
    }));
  }

  // --- Tables: sorted, filtered, saved.

  const valueOf = (cell) => {
    const text = cell.dataset.value ?? cell.textContent.trim();
    // Not reached comes after all numbers.
    if (text === "") return Infinity;
    return Number.isNaN(Number(text)) ? text : Number(text);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a < b ? -1 : 1;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  // A spreadsheet takes a cell that starts like this for a formula, unless it is a number.
  const harmless = (text) => (/^[=+@-]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text);
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csvOf = ({ table, rows }) => {
    const heads = all("thead th", table);
    const header = heads.flatMap(({ dataset }) => (dataset.range === undefined ? [dataset.name] : ["", "_low", "_high"].map((end) => dataset.name + end)));
    const cells = (row) => heads.flatMap(({ dataset }, column) => {
      const { value, low, high } = row.cells[column].dataset;
      return dataset.range === undefined ? [value ?? row.cells[column].textContent] : [value, low, high];
    });
    const lines = [header, ...rows.filter((row) => !row.hidden).map(cells)];
    return lines.map((line) => line.map((text) => quoted(harmless(text ?? ""))).join(",")).join("\n") + "\n";
  };

  for (const each of tables) {
    const { table, rows } = each;
    const body = table.tBodies[0];
    all("thead th", table).forEach((head, column) => {
      // On a narrow screen a row is a card, and every cell needs its title; the page of many rows leaves that to here.
      const title = head.textContent;
      if (column && rows.length > 100) rows.forEach((row) => { row.cells[column].dataset.title = title; });
      const sort = button(head.textContent, null, () => {
        all("tr.own", body).forEach(close);
        const up = head.getAttribute("aria-sort") !== "ascending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        rows.sort((a, b) => (up ? 1 : -1) * compare(valueOf(a.cells[column]), valueOf(b.cells[column])));
        rows.forEach((row) => row.classList.remove("later"));
        body.append(...rows);
      });
      sort.className = "sort";
      head.textContent = "";
      head.append(sort);
    });
    const tools = make("p", "", { className: "tools" });
    const name = table.caption ? table.caption.textContent : table.id;
    if (rows.length > 5) {
      const label = make("label", `${_("Show rows with")} `);
      const input = make("input", "", { type: "search", placeholder: _("any text") });
      each.count = make("span");
      each.count.setAttribute("role", "status");
      input.addEventListener("input", () => {
        all("tr.own", body).forEach(close);
        rows.forEach((row) => row.classList.remove("later"));
        each.words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        select();
      });
      label.append(input);
      tools.append(label, each.count, " ");
    }
    if (rows.some((row) => row.classList.contains("later"))) {
      const more = button(`${_("all")} (${rows.length})`, null, () => {
        rows.forEach((row) => row.classList.remove("later"));
        more.remove();
      });
      tools.append(more, " ");
    }
    tools.append(button(_("Save as CSV"), _("Save as %s: %s", "CSV", name),
      () => save(`${table.id}.csv`, new Blob([csvOf(each)], { type: "text/csv" }))));
    table.parentElement.before(tools);
  }

  // --- A run's details move below its row, and back.

  const close = (row) => {
    row.home.append(row.querySelector("details"));
    row.remove();
  };
  const details = new Map(all("tr[data-run] a").map((link) => [link.closest("tr").dataset.run, link.hash.slice(1)]));
  const show = (run, moves) => {
    const element = document.getElementById(details.get(run));
    if (!element) return;
    const there = element.closest("tr.own");
    if (there && moves) return close(there);
    const row = all("tr[data-run]").find((each) => each.dataset.run === run);
    if (!there && row) {
      const own = make("tr", "", { className: "own", home: element.parentElement });
      const cell = make("td", "", { colSpan: row.cells.length });
      cell.append(element);
      own.append(cell);
      row.after(own);
    }
    element.open = true;
    if (!moves) element.scrollIntoView({ block: "center" });
  };
  for (const link of all("tr[data-run] a"))
    link.addEventListener("click", (event) => {
      event.preventDefault();
      show(link.closest("tr").dataset.run, true);
    });

  // --- Figures: the specifications that are drawn on the page, alive.

  const tip = make("div", "", { className: "tip", hidden: true });
  const spoken = make("div", "", { className: "spoken" });
  spoken.setAttribute("aria-live", "polite");
  document.body.append(tip, spoken);

  const rowsOf = ({ rows: length, columns }) => {
    const cell = ({ values, of, at }, row) => (values ? values[row] : of[at[row]]);
    const cells = (row) => Object.entries(columns).map(([name, column]) => [name, cell(column, row)]);
    return Array.from({ length }, (nothing, row) => Object.fromEntries(cells(row)));
  };
  const AXIS = 62, GAP = 44, NARROWEST = 230;

  class Figure {
    constructor(element, { spec, table }) {
      Object.assign(this, { element, spec, drawing: element.querySelector(".drawing"), rows: rowsOf(table), switched: {} });
      this.title = element.querySelector(".title").textContent;
      this.meta = spec.usermeta ?? {};
      this.tools = make("p", "", { className: "tools" });
      for (const kind of ["SVG", "PNG"]) this.tools.append(button(kind, _("Save as %s: %s", kind, this.title), () => this.save(kind)));
      element.append(this.tools);
    }

    visible(row) {
      if (row.run != null && row.run in data.runs) return shown.runs.has(row.run);
      if (row.configuration != null) return shown.configurations.has(row.configuration);
      return true;
    }

    // The specification at the width that there is, with axes as they are switched.
    fitted(excess) {
      const spec = structuredClone(this.spec), inner = spec.spec ?? spec, width = this.drawing.clientWidth;
      if (spec.facet) spec.columns = Math.max(1, Math.min(spec.columns, Math.floor((width - AXIS + GAP) / NARROWEST)));
      const columns = spec.facet ? spec.columns : 1;
      inner.width = Math.max(120, Math.floor((width - AXIS - excess - GAP * (columns - 1)) / columns));
      for (const { encoding = {} } of inner.layer)
        for (const channel of ["x", "y"])
          if (encoding[channel]?.scale && channel in this.switched) {
            encoding[channel].scale = { ...encoding[channel].scale, type: this.switched[channel], zero: undefined };
            if (this.switched[channel] === "linear") encoding[channel].scale.zero = false;
          }
      const narrow = width < 480, config = structuredClone(data.config);
      // On a narrow screen names of rows take less of it, and so do the numbers in a map and the keys of a legend.
      if (narrow) {
        config.legend.columns = 2;
        for (const { mark, encoding = {} } of inner.layer) {
          if (encoding.y?.axis?.labelLimit) encoding.y.axis.labelLimit = 84;
          if (mark.type === "text" && inner.layer.some((each) => each.mark.type === "rect")) mark.fontSize = 8;
        }
      }
      return { ...spec, config, datasets: { table: this.rows.filter((row) => this.visible(row)) } };
    }

    live() {
      this.waiting ??= this.draw().finally(() => { this.waiting = null; });
      return this.waiting;
    }

    async draw(excess = 0) {
      const holder = make("div");
      const options = { ast: true, actions: false, renderer: "svg", tooltip: false, defaultStyle: false, logLevel: 1 };
      this.result?.finalize();
      this.result = await vegaEmbed(holder, this.fitted(excess), options);
      this.view = this.result.view;
      const svg = holder.querySelector("svg");
      svg.setAttribute("aria-hidden", "true");
      this.alternative ??= this.drawing.querySelector("svg").getAttribute("aria-label");
      this.drawing.replaceChildren(svg);
      this.width = window.innerWidth;
      const over = svg.width.baseVal.value - this.drawing.clientWidth;
      if (over > 4 && !excess) return this.draw(over + 4);
      if (!this.started) this.start();
    }

    start() {
      this.started = true;
      this.drawing.setAttribute("role", "img");
      this.drawing.setAttribute("aria-label", this.alternative);
      if (!this.meta.y) return;
      this.dot = make("div", "", { className: "dot", hidden: true });
      this.element.append(this.dot);
      const { drawing } = this;
      drawing.tabIndex = 0;
      drawing.setAttribute("role", "application");
      drawing.setAttribute("aria-label", _("%s Arrow keys read values, plus and minus zoom, 0 shows all.", this.alternative));
      drawing.addEventListener("pointermove", (event) => this.point(event));
      drawing.addEventListener("pointerleave", () => this.hide());
      drawing.addEventListener("click", () => this.at?.run != null && !this.moved && show(this.at.run, false));
      drawing.addEventListener("pointerdown", () => { this.moved = false; });
      drawing.addEventListener("keydown", (event) => this.key(event));
      drawing.addEventListener("blur", () => this.hide());
      const act = (sign, label, deed) => this.tools.append(button(sign, _("%s: %s", _(label), this.title), deed));
      act("+", "zoom in", () => this.zoom(0.6));
      act("\u2212", "zoom out", () => this.zoom(1 / 0.6));
      act("\u2922", "whole", () => this.zoom(0));
      for (const channel of this.meta.log) {
        const label = make("label"), words = `${_("logarithmic")} ${_(channel === "x" ? "across" : "up")}`;
        const box = make("input", "", { type: "checkbox", checked: this.scaleType(channel) === "log" });
        box.setAttribute("aria-label", `${words}: ${this.title}`);
        box.addEventListener("change", () => {
          this.switched[channel] = box.checked ? "log" : "linear";
          this.hide();
          this.live();
        });
        label.append(box, ` ${words}`);
        this.tools.append(label);
      }
    }

    encoding(channel) {
      return (this.spec.spec ?? this.spec).layer.map((each) => each.encoding?.[channel]).find((each) => each?.scale);
    }

    scaleType(channel) {
      return this.switched[channel] ?? this.encoding(channel).scale.type;
    }

    filter() {
      this.hide();
      if (this.view) this.view.data("table", this.rows.filter((row) => this.visible(row))).runAsync();
    }

    // The plotting areas: one, or one a panel.
    areas() {
      return all("path.background", this.drawing).map((path) => ({ path, item: path.__data__ }))
        .filter(({ item }) => item && ["scope", "frame"].includes(item.mark?.role) && item.width > 20 && item.height > 20)
        .map(({ path, item }) => ({ item, box: path.getBoundingClientRect(), panel: item.datum?.panel }));
    }

    readable(panel) {
      const { x, y, kinds } = this.meta;
      return this.rows.filter((row) => kinds.includes(row.kind) && this.visible(row) && row[x] != null && row[y] != null
        && (panel === undefined || row.panel === panel));
    }

    place(row, { item, box }) {
      const { x, y } = this.meta;
      return [box.left + (this.view.scale("x")(row[x]) / item.width) * box.width, box.top + (this.view.scale("y")(row[y]) / item.height) * box.height];
    }

    point(event) {
      if (event.buttons) { this.moved = true; return this.hide(); }
      const area = this.areas().find(({ box }) => event.clientX >= box.left - 12 && event.clientX <= box.right + 12
        && event.clientY >= box.top - 12 && event.clientY <= box.bottom + 12);
      if (!area) return this.hide();
      let best = null, least = 60;
      for (const row of this.readable(area.panel)) {
        const [x, y] = this.place(row, area);
        const distance = Math.hypot(x - event.clientX, y - event.clientY);
        if (distance < least) [best, least] = [row, distance];
      }
      best ? this.read(best, area) : this.hide();
    }

    text(row) {
      const { x, y } = this.meta;
      const amount = (field, channel) => {
        const title = this.encoding(channel).title ?? field;
        return `${title} ${numbers.format(field === "place" && row.batch_size != null ? row.batch_size : row[field])}`;
      };
      const name = row.run ?? row.configuration ?? row.goal ?? "";
      const missed = row.missed ? ` (${_("not reached")})` : "";
      const range = row.low != null && row.high != null ? ` (${numbers.format(row.low)} \u2013 ${numbers.format(row.high)})` : "";
      return [name, amount(x, "x"), amount(y, "y") + range + missed].filter(Boolean);
    }

    read(row, area) {
      const [x, y] = this.place(row, area), box = this.element.getBoundingClientRect();
      this.at = row;
      this.dot.hidden = tip.hidden = false;
      this.dot.style.left = `${x - box.left}px`;
      this.dot.style.top = `${y - box.top}px`;
      tip.replaceChildren(...this.text(row).map((line) => make("div", line)));
      tip.style.left = `${Math.max(8, Math.min(x + 14, window.innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${y + 18 + tip.offsetHeight > window.innerHeight ? y - tip.offsetHeight - 14 : y + 18}px`;
    }

    hide() {
      this.at = null;
      tip.hidden = true;
      if (this.dot) this.dot.hidden = true;
    }

    key(event) {
      const zooms = { "+": 0.6, "-": 1 / 0.6, 0: 0 };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in zooms) { event.preventDefault(); return this.zoom(zooms[event.key]); }
      if (event.key === "Escape") return this.hide();
      if (event.key === "Enter" && this.at?.run != null) return show(this.at.run, false);
      const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
      if (!(event.key in steps)) return;
      event.preventDefault();
      const { x } = this.meta, [along, aside] = steps[event.key];
      const name = (row) => JSON.stringify([row.panel, row.variant ?? row.goal, row.kind, x === "place" ? "" : row.run ?? row.configuration]);
      const curves = new Map();
      for (const row of this.readable()) curves.set(name(row), [...(curves.get(name(row)) ?? []), row]);
      for (const curve of curves.values()) curve.sort((a, b) => a[x] - b[x]);
      const names = [...curves.keys()];
      if (!names.length) return;
      const before = this.at;
      let row = curves.get(names[0])[0];
      if (before && aside) {
        const next = curves.get(names[(names.indexOf(name(before)) + aside + names.length) % names.length]);
        row = next.reduce((near, each) => (Math.abs(each[x] - before[x]) < Math.abs(near[x] - before[x]) ? each : near));
      } else if (before) {
        const curve = curves.get(name(before)) ?? [before];
        row = curve[Math.max(0, Math.min(curve.length - 1, curve.indexOf(before) + along))];
      }
      const area = this.areas().find(({ panel }) => panel === undefined || panel === row.panel);
      if (!area) return;
      this.read(row, area);
      spoken.textContent = this.text(row).join(", ");
    }

    // The middle stays; 0: everything is shown again.
    zoom(factor) {
      this.hide();
      for (const channel of ["x", "y"]) {
        const first = (this.spec.spec ?? this.spec).layer[0].encoding[channel];
        const domain = this.view.scale(channel).domain(), isLog = this.scaleType(channel) === "log";
        const [from, to] = [domain[0], domain[domain.length - 1]].map((end) => (isLog ? Math.log(end) : Number(end)));
        const middle = (from + to) / 2, half = ((to - from) / 2) * factor;
        const ends = factor ? [middle - half, middle + half].map((end) => (isLog ? Math.exp(end) : end)) : null;
        this.view.signal(`grid_${first.field}`, ends);
      }
      this.view.runAsync();
    }

    async save(kind) {
      if (!this.view) await this.live();
      const style = getComputedStyle(document.documentElement), paper = style.getPropertyValue("--paper");
      const text = (await this.view.toSVG()).replace("<svg ", `<svg style="background: ${paper}" `)
        .replace(/var\((--[\w-]+)\)/g, (whole, name) => style.getPropertyValue(name).trim());
      if (kind === "SVG") return save(`${this.element.id}.svg`, new Blob([text], { type: "image/svg+xml" }));
      const image = Object.assign(new Image(), { src: `data:image/svg+xml,${encodeURIComponent(text)}` });
      await image.decode();
      const canvas = make("canvas", "", { width: 3 * image.width, height: 3 * image.height });
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((png) => save(`${this.element.id}.png`, png));
    }
  }

  const figures = new Map(all("figure").map((element) => [element, new Figure(element, data.figures[element.id])]));
  // Drawn anew only where somebody looks, so that a page of many runs answers at once.
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries)
      if (isIntersecting) {
        seen.unobserve(target);
        figures.get(target).live();
      }
  }, { rootMargin: "300px" });
  figures.forEach((figure, element) => seen.observe(element));
  let resized;
  window.addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => figures.forEach((figure) => figure.view && figure.width !== window.innerWidth && figure.live()), 200);
  });
  select();
})();
