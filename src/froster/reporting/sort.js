// Reading needs none of this: it lets a click on a column's name sort the classes.
for (const table of document.querySelectorAll("table.classes")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.hasAttribute("data-sorts")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const value = (row) => row.cells[column].dataset.value;
      const words = head.dataset.sorts === "words";
      const rows = [...table.tBodies[0].rows].sort((a, b) =>
        words ? value(a).localeCompare(value(b)) : value(a) - value(b),
      );
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...(down ? rows.reverse() : rows));
    });
  });
}
