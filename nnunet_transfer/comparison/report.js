// Sorting and filtering of the tables of cases; without it they are complete, worst difference first.
for (const table of document.querySelectorAll("table.cases")) {
  const bodies = [...table.tBodies];
  const text = (body, column) => body.rows[0].cells[column].textContent;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = new Intl.Collator("en", { numeric: true }).compare;
      bodies.sort((a, b) => {
        const [x, y] = [text(a, column), text(b, column)];
        const [u, v] = [parseFloat(x), parseFloat(y)];
        const both = x !== "" && y !== "" && !isNaN(Number(x)) && !isNaN(Number(y));
        const missing = (x === "–") - (y === "–");
        return missing || (down ? -1 : 1) * (both ? u - v : compare(x, y));
      });
      table.append(...bodies);
    };
  });
  const label = document.createElement("label");
  label.className = "filter";
  const input = document.createElement("input");
  input.type = "search";
  const count = document.createElement("output");
  label.append("Filter ", input, " ", count);
  input.oninput = () => {
    const wanted = input.value.toLowerCase();
    for (const body of bodies) body.hidden = !body.rows[0].textContent.toLowerCase().includes(wanted);
    count.textContent = `${bodies.filter((body) => !body.hidden).length} of ${bodies.length} cases`;
  };
  table.closest(".scroll").before(label);
}
