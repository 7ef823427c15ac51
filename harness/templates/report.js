"use strict";
(function () {
  var svg = document.getElementById("timeline");
  var box = svg && svg.parentNode;
  var tell = document.querySelector(".tell");
  var controls = document.querySelector(".controls");
  if (!svg || !box || !tell || !controls) return;
  controls.hidden = false;
  tell.hidden = false;
  var width = svg.viewBox.baseVal.width, height = svg.viewBox.baseVal.height;
  var left = +svg.dataset.left, event = +svg.dataset.event, first = +svg.dataset.first;
  var zoom = 1;

  // Steps by lane and moment, as the table has them: the picture draws them as one path.
  var steps = [];
  document.querySelectorAll("#steps tbody tr").forEach(function (row) {
    var cells = row.children;
    steps.push({ at: +cells[0].textContent, who: cells[1].textContent, what: cells[2].textContent });
  });

  function show(to, x) {
    var before = zoom;
    zoom = Math.min(12, Math.max(0.1, to));
    svg.setAttribute("width", width * zoom);
    svg.setAttribute("height", height * Math.max(1, Math.min(zoom, 2)));
    svg.setAttribute("preserveAspectRatio", "none");
    if (x !== undefined) box.scrollLeft = (box.scrollLeft + x) * zoom / before - x;
    follow();
  }

  function whole() { show(box.clientWidth / width, 0); }

  controls.addEventListener("click", function (click) {
    var by = click.target.dataset.zoom;
    if (by === undefined) return;
    if (click.target.dataset.end) { show(1, 0); box.scrollLeft = box.scrollWidth; return; }
    if (+by === 0) whole(); else show(zoom * by, box.clientWidth / 2);
  });
  box.addEventListener("wheel", function (wheel) {
    if (!wheel.ctrlKey) return;
    wheel.preventDefault();
    show(zoom * (wheel.deltaY < 0 ? 1.2 : 1 / 1.2), wheel.clientX - box.getBoundingClientRect().left);
  }, { passive: false });
  box.addEventListener("keydown", function (key) {
    if (key.key === "+") show(zoom * 1.4, box.clientWidth / 2);
    if (key.key === "-") show(zoom / 1.4, box.clientWidth / 2);
  });
  var grabbed = null;
  box.addEventListener("pointerdown", function (down) {
    if (down.pointerType === "mouse") grabbed = { x: down.clientX, from: box.scrollLeft };
  });
  window.addEventListener("pointerup", function () { grabbed = null; });

  var pointer = document.createElementNS(svg.namespaceURI, "path");
  pointer.setAttribute("class", "pointer");
  svg.appendChild(pointer);
  box.addEventListener("pointermove", function (move) {
    if (grabbed) { box.scrollLeft = grabbed.from + grabbed.x - move.clientX; return; }
    var frame = svg.getBoundingClientRect();
    if (!frame.width) return;
    var x = (move.clientX - frame.left) * width / frame.width;
    var moment = Math.round((x - left) / event) + first;
    var said = [];
    var title = move.target.querySelector && move.target.querySelector(":scope > title");
    title = title || (move.target.parentNode.querySelector
      && move.target.parentNode.querySelector(":scope > title"));
    if (title) said.push(title.textContent);
    var here = move.target.closest && move.target.closest(".lane");
    var near = null;
    steps.forEach(function (step) {
      if (here && here.dataset.name !== step.who) return;
      if (!near || Math.abs(step.at - moment) < Math.abs(near.at - moment)) near = step;
    });
    if (near && Math.abs(near.at - moment) <= 2) {
      said.push("event " + near.at + ", " + near.who + ": " + near.what);
    }
    tell.textContent = said.join("  |  ") || "event " + moment;
    var at = left + (moment - first) * event;
    pointer.setAttribute("d", "M" + at + " 18V" + height);
  });

  // Names of lanes stay where they can be read; on paper each strip has its own.
  var names = document.getElementById("names");
  function follow() {
    names.setAttribute("transform", "translate(" + box.scrollLeft / zoom + ")");
  }
  box.addEventListener("scroll", follow);
  window.addEventListener("beforeprint", function () { names.removeAttribute("transform"); });
  window.addEventListener("afterprint", follow);

  // What nearly fits is seen whole. Else what matters most comes first: the decisive choice, or else
  // the end.
  var mark = svg.querySelector(".decisive path, .nearest path") || svg.querySelector(".cut path");
  if (width > box.clientWidth && width <= 1.3 * box.clientWidth) whole();
  else if (mark) box.scrollLeft = mark.getBBox().x - box.clientWidth / 2;
  follow();
})();
