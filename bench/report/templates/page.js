"use strict";
(function () {
  // Without scripts the page is complete; scripts add sorting and the switch of colours.
  var root = document.documentElement;

  function remembered() {
    try { return localStorage.getItem("rbench-theme"); } catch (error) { return null; }
  }

  function remember(theme) {
    try { localStorage.setItem("rbench-theme", theme); } catch (error) { /* kept for this visit */ }
  }

  var toggle = document.getElementById("theme");
  var system = window.matchMedia("(prefers-color-scheme: dark)");

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  }

  function label() {
    toggle.textContent = isDark() ? "Light" : "Dark";
    toggle.setAttribute("aria-label", "Switch to " + toggle.textContent.toLowerCase() + " colours");
  }

  var kept = remembered();
  if (kept === "dark" || kept === "light") { root.dataset.theme = kept; }
  toggle.hidden = false;
  label();
  toggle.addEventListener("click", function () {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    label();
  });
  system.addEventListener("change", label);

  function keyOf(row, column) {
    var cell = row.cells[column];
    if (cell.hasAttribute("data-v")) {
      return cell.dataset.v === "" ? null : Number(cell.dataset.v);
    }
    return cell.textContent.trim();
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") { return a - b; }
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  // Rows without a number stay last in either direction; equal rows keep their order.
  function sorted(rows, column, sign) {
    return rows
      .map(function (row, place) { return { row: row, place: place, key: keyOf(row, column) }; })
      .sort(function (a, b) {
        if (a.key === null || b.key === null) {
          return (a.key === null) - (b.key === null) || a.place - b.place;
        }
        return sign * compare(a.key, b.key) || a.place - b.place;
      })
      .map(function (entry) { return entry.row; });
  }

  function makeSortable(table) {
    var body = table.tBodies[0];
    var original = Array.prototype.slice.call(body.rows);
    if (original.length < 2) { return; }
    var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      var numeric = original[0].cells[column].hasAttribute("data-v");
      var turns = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
      var span = head.querySelector("span");
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = span.textContent;
      button.title = "Sort by this column";
      span.replaceWith(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () {
        var turn = turns[(turns.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
        heads.forEach(function (other) { other.setAttribute("aria-sort", "none"); });
        head.setAttribute("aria-sort", turn);
        table.classList.toggle("sorted", turn !== "none");
        var sign = turn === "ascending" ? 1 : -1;
        var rows = turn === "none" ? original : sorted(original, column, sign);
        rows.forEach(function (row) { body.appendChild(row); });
      });
    });
  }

  Array.prototype.forEach.call(document.querySelectorAll("table.sortable"), makeSortable);

  // A table that is wider than the page says so, and shows on which side there is more of it.
  function watchWidth(box) {
    var hint = document.createElement("p");
    hint.className = "hint";
    hint.textContent = "scroll sideways for more columns \u2192";
    hint.setAttribute("aria-hidden", "true");
    function look() {
      var room = box.scrollWidth - box.clientWidth;
      var wide = room > 1;
      box.classList.toggle("overflows", wide);
      box.classList.toggle("more", wide && box.scrollLeft < room - 1);
      box.classList.toggle("past", wide && box.scrollLeft > 1);
      if (wide && !hint.isConnected) { box.before(hint); }
      if (!wide) { hint.remove(); }
    }
    box.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(box);
    look();
  }

  Array.prototype.forEach.call(document.querySelectorAll(".scroll[tabindex]"), watchWidth);

  // A link into a closed part opens it; so does printing, but for long lists.
  function openAround(element) {
    for (var at = element; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") { at.open = true; }
    }
  }
  window.addEventListener("hashchange", function () {
    openAround(document.getElementById(decodeURIComponent(location.hash.slice(1))));
  });
  window.addEventListener("beforeprint", function () {
    var printed = "details.lead, section:not(#cells):not(#reproduce) details:not(.quiet)";
    Array.prototype.forEach.call(document.querySelectorAll(printed), function (part) {
      part.open = true;
    });
  });
})();
