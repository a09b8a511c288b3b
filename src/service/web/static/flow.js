// The picture of the flow: zoom, pan, step through the transfers, follow an account's money.
"use strict";
(() => {
  const view = document.querySelector(".flow-view");
  if (!view) return;
  const pane = view.querySelector(".flow-pane");
  const svg = view.querySelector("svg");
  const output = view.querySelector("output");
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const [SMALLEST, LARGEST, STEP] = [0.2, 4, 1.25];
  const READABLE = 0.75; // smaller only when asked
  const boxes = [...svg.querySelectorAll("[data-box]")];
  const arrows = [...svg.querySelectorAll("[data-steps]")].map((label) => ({
    number: label.dataset.arrow,
    payer: label.dataset.payer,
    payee: label.dataset.payee,
    steps: label.dataset.steps.split(" ").map(Number),
    amounts: label.dataset.amounts.split("\n"),
    label,
  }));
  const last = Math.max(...arrows.flatMap((arrow) => arrow.steps));
  const hint = output.textContent;
  let scale = 1;
  let step = 0;

  function zoom(wanted, x = pane.clientWidth / 2, y = pane.clientHeight / 2) {
    const before = scale;
    scale = Math.min(LARGEST, Math.max(SMALLEST, wanted));
    const [left, top] = [pane.scrollLeft + x, pane.scrollTop + y];
    svg.setAttribute("width", width * scale);
    svg.setAttribute("height", height * scale);
    pane.scrollLeft = (left * scale) / before - x;
    pane.scrollTop = (top * scale) / before - y;
  }

  const name = (box) => box.querySelector(".who").textContent;
  const fitting = () => Math.min(1, (pane.clientWidth - 2) / width);

  // Shows these arrows and accounts; all where there are none.
  function show(shown, accounts, text) {
    const numbers = new Set(shown.map((arrow) => arrow.number));
    svg.classList.toggle("dim", numbers.size > 0 || accounts.size > 0);
    for (const one of svg.querySelectorAll("[data-arrow]")) {
      one.classList.toggle("on", numbers.has(one.dataset.arrow));
    }
    for (const box of boxes) box.classList.toggle("on", accounts.has(box.dataset.box));
    output.textContent = text;
  }

  function go(wanted) {
    step = Math.min(last, Math.max(1, wanted));
    const arrow = arrows.find((one) => one.steps.includes(step));
    const amount = arrow.amounts[arrow.steps.indexOf(step)];
    const ends = [arrow.payer, arrow.payee];
    const [payer, payee] = ends.map((box) => name(boxes[box]));
    show([arrow], new Set(ends), `Transfer ${step} of ${last}: ${payer} pays ${payee} ${amount}.`);
    arrow.label.scrollIntoView({ block: "nearest", inline: "center" });
  }

  // Where an account's money can have gone: arrows that leave an account after one has reached it.
  function follow(box) {
    const reached = new Map([[box.dataset.box, 0]]);
    const path = new Set();
    for (const [at, arrow] of arrows.flatMap((one) => one.steps.map((n) => [n, one])).sort((a, b) => a[0] - b[0])) {
      if ((reached.get(arrow.payer) ?? Infinity) > at) continue;
      path.add(arrow);
      if (!reached.has(arrow.payee)) reached.set(arrow.payee, at);
    }
    const found = path.size === 1 ? "1 arrow" : `${path.size} arrows`;
    show([...path], new Set(reached.keys()), `Where money of ${name(box)} can have gone: ${found}.`);
  }

  const all = () => {
    step = 0;
    show([], new Set(), hint);
  };
  const actions = {
    back: () => go(step - 1),
    next: () => go(step + 1),
    all,
    in: () => zoom(scale * STEP),
    out: () => zoom(scale / STEP),
    fit: () => zoom(fitting()),
  };
  view.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    const box = event.target.closest("[data-box]");
    if (button) actions[button.dataset.do]();
    else if (box) follow(box);
  });
  view.addEventListener("keydown", (event) => {
    const box = event.target.closest("[data-box]");
    if (event.key === "Escape") all();
    else if (box && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      follow(box);
    }
  });
  pane.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    const corner = pane.getBoundingClientRect();
    zoom(scale * (event.deltaY < 0 ? STEP : 1 / STEP), event.clientX - corner.left, event.clientY - corner.top);
  }, { passive: false });
  pane.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button !== 0) return; // fingers scroll
    const move = (to) => {
      pane.classList.add("held");
      pane.scrollLeft -= to.movementX;
      pane.scrollTop -= to.movementY;
    };
    const drop = () => {
      removeEventListener("pointermove", move);
      pane.classList.remove("held");
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", drop, { once: true });
  });
  for (const box of boxes) {
    box.setAttribute("tabindex", "0");
    box.setAttribute("role", "button");
  }
  view.querySelector(".flow-tools").hidden = false;
  pane.classList.add("live");
  zoom(Math.max(READABLE, fitting()));
  const first = boxes[0].querySelector("rect");
  pane.scrollLeft = (Number(first.getAttribute("x")) + first.getAttribute("width") / 2) * scale - pane.clientWidth / 2;
})();
