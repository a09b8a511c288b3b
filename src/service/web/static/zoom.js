// Zoom: dragging over a part of a chart fills the form `zoom` with its bounds and sends it.
"use strict";
(() => {
  const SHORTEST = 4; // a shorter drag is a click

  const pointOf = (chart, event) =>
    new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());

  // The fields' texts for two positions along an axis; none for one beyond its ends.
  function boundsOf([, , low, high, start, end, seconds], positions) {
    const shares = positions.map((at) => (at - start) / (end - start)).sort((a, b) => a - b);
    return shares.map((share, upper) => {
      if (share <= 0 || share >= 1) return "";
      const value = low + share * (high - low);
      if (!seconds) return (10 ** value).toPrecision(4);
      const time = (Math.floor(value / seconds) + upper) * seconds - upper; // whole columns
      return new Date(time * 1000).toISOString().slice(0, 19);
    });
  }

  function send(axes, from, to) {
    const form = document.getElementById("zoom");
    for (const [index, axis] of axes.entries()) {
      const bounds = boundsOf(axis, index ? [from.y, to.y] : [from.x, to.x]);
      bounds.forEach((bound, which) => {
        form.elements[axis[which]].value = bound;
      });
    }
    form.requestSubmit();
  }

  addEventListener("dragstart", (event) => {
    if (event.target.closest?.("[data-axes]")) event.preventDefault(); // of a link
  });
  addEventListener("pointerdown", (event) => {
    const chart = event.target.closest("[data-axes]");
    if (!chart || event.pointerType !== "mouse" || event.button !== 0) return; // fingers scroll
    const axes = JSON.parse(chart.dataset.axes);
    const from = pointOf(chart, event);
    const frame = document.createElementNS(chart.namespaceURI, "rect");
    frame.setAttribute("class", "frame");
    frame.setAttribute("height", chart.viewBox.baseVal.height);
    const move = (event) => {
      const to = pointOf(chart, event);
      for (const [along, size] of [["x", "width"], ["y", "height"]].slice(0, axes.length)) {
        frame.setAttribute(along, Math.min(from[along], to[along]));
        frame.setAttribute(size, Math.abs(from[along] - to[along]));
      }
      chart.append(frame);
    };
    const drop = (event) => {
      removeEventListener("pointermove", move);
      frame.remove();
      const to = pointOf(chart, event);
      if (Math.abs(to.x - from.x) < SHORTEST) return;
      addEventListener("click", (click) => click.preventDefault(), { capture: true, once: true });
      send(axes, from, to);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", drop, { once: true });
  });
})();
