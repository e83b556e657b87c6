// What a page can do beyond being read. Without this script nothing on it is missing. Texts go from element to element as
// text, never as HTML: names in a sweep may come from a stranger.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const texts = JSON.parse(document.documentElement.dataset.texts);
  // A text in the language of the page; each %s is one of the values.
  const said = (text, ...values) => values.reduce((filled, value) => filled.replace("%s", () => value), texts[text]);
  const made = (tag, text, props = {}) => Object.assign(document.createElement(tag), { textContent: text }, props);

  // A number at the start of a cell, whatever stands behind it; not reached comes after all numbers.
  const valueOf = (cell) => {
    const text = cell.textContent.trim();
    if (text === "-" || text.startsWith(said("not reached"))) return Infinity;
    const number = parseFloat(text.replace(/,/g, ""));
    return /^[-\d.]/.test(text) && !Number.isNaN(number) ? number : text;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a < b ? -1 : 1;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };

  const save = (name, blob) => {
    const link = made("a", "", { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  // A spreadsheet takes a cell that starts like this for a formula.
  const harmless = (text) => (/^[=+@]/.test(text) ? `'${text}` : text);
  const csvOf = (table) =>
    all("tr", table).filter((row) => !row.classList.contains("own"))
      .map((row) => [...row.cells].map((cell) => quoted(harmless(cell.textContent.trim()))).join(",")).join("\n") + "\n";

  for (const table of all("table.runs, table.cards")) {
    const body = table.tBodies[0];
    all("thead th", table).forEach((head, column) => {
      const button = made("button", head.textContent, { type: "button", className: "sort" });
      head.textContent = "";
      head.append(button);
      button.addEventListener("click", () => {
        all("tr.own", body).forEach(close);
        const up = head.getAttribute("aria-sort") !== "ascending";
        all("thead th", table).forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
        rows.sort((a, b) => (up ? 1 : -1) * compare(a[0], b[0]));
        body.append(...rows.map((each) => each[1]));
      });
    });
    const tools = made("p", "", { className: "tools" });
    const name = table.caption ? table.caption.textContent : "table";
    if (body.rows.length > 5) {
      const label = made("label", `${said("Show rows with")} `);
      const input = made("input", "", { type: "search", placeholder: said("any text") });
      const count = made("span", "");
      count.setAttribute("role", "status");
      input.addEventListener("input", () => {
        all("tr.own", body).forEach(close);
        const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        let shown = 0;
        for (const row of body.rows) {
          const text = row.textContent.toLowerCase();
          row.hidden = !words.every((word) => text.includes(word));
          shown += row.hidden ? 0 : 1;
        }
        count.textContent = ` ${said("%s of %s", shown, body.rows.length)}`;
      });
      label.append(input);
      tools.append(label, count, " ");
    }
    const button = made("button", said("Save as CSV"), { type: "button" });
    button.setAttribute("aria-label", said("Save as %s: %s", "CSV", name));
    button.addEventListener("click", () => save(`${table.id || "runs"}.csv`, new Blob([csvOf(table)], { type: "text/csv" })));
    tools.append(button);
    table.parentElement.before(tools);
  }

  // The details of a run move below its row, and back.
  const close = (row) => {
    document.getElementById(row.dataset.home).append(row.querySelector("details"));
    row.remove();
  };
  const show = (number, moves) => {
    const details = document.getElementById(`run-${number}`);
    if (!details) return;
    const row = document.getElementById(`row-${number}`);
    const there = details.closest("tr.own");
    if (there && moves) return close(there);
    if (moves && row) {
      const home = details.parentElement;
      const own = made("tr", "", { className: "own" });
      own.dataset.home = home.id;
      const cell = made("td", "", { colSpan: row.cells.length });
      cell.append(details);
      own.append(cell);
      row.after(own);
    } else if (!there) {
      for (let each = details.parentElement; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    }
    details.open = true;
    if (!moves) details.scrollIntoView({ block: "center" });
  };
  for (const link of all("a[data-run]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      show(link.dataset.run, true);
    });
  }

  const tip = made("div", "", { className: "tip", hidden: true });
  document.body.append(tip);
  for (const mark of all(".mark")) {
    // The browser's own would come a second later, on top.
    const title = mark.querySelector("title");
    const text = title.textContent;
    title.remove();
    mark.addEventListener("pointermove", (event) => {
      tip.textContent = text;
      tip.hidden = false;
      tip.style.left = `${Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${event.clientY + 16}px`;
    });
    mark.addEventListener("pointerleave", () => { tip.hidden = true; });
    if (mark.dataset.run) mark.addEventListener("click", () => show(mark.dataset.run, false));
  }

  const drawn = (svg) => {
    const copy = svg.cloneNode(true);
    const style = getComputedStyle(document.documentElement);
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    copy.style.background = style.getPropertyValue("--paper");
    const text = new XMLSerializer().serializeToString(copy);
    return [text.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim()), width, height];
  };
  for (const figure of all("figure")) {
    const svg = figure.querySelector("svg");
    const tools = made("p", "", { className: "tools" });
    for (const kind of ["SVG", "PNG"]) {
      const button = made("button", kind, { type: "button" });
      button.setAttribute("aria-label", said("Save as %s: %s", kind, figure.querySelector("h3").textContent));
      button.addEventListener("click", () => {
        const [text, width, height] = drawn(svg);
        const blob = new Blob([text], { type: "image/svg+xml" });
        if (kind === "SVG") return save(`${figure.id}.svg`, blob);
        const image = new Image();
        image.onload = () => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 3 * width, height: 3 * height });
          canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
          canvas.toBlob((png) => save(`${figure.id}.png`, png));
        };
        image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
      });
      tools.append(button);
    }
    figure.append(tools);
  }
})();
