// Sorting: a press on a column's name sorts by it, a second press turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const first = head.dataset.first, other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach(each => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1, value = row => row.cells[column].dataset.value;
    const compare = (a, b) => {
      if (value(a) === "" || value(b) === "") return (value(a) === "") - (value(b) === "");  // the unmeasured come last
      const difference = Number(value(a)) - Number(value(b));
      return sign * (Number.isNaN(difference) ? value(a).localeCompare(value(b), undefined, {numeric: true}) : difference);
    };
    body.append(...[...body.rows].sort(compare));
  }));
}

// Filtering: what is chosen also stands behind the # of the address, so that a link can choose it.
for (const form of document.querySelectorAll("form.filter")) {
  const rows = [...document.getElementById(form.dataset.table).tBodies[0].rows], fields = [...form.elements].filter(each => each.name);
  const show = () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = fields.some(({name, value}) => value && (
        name === "text" ? !row.textContent.toLowerCase().includes(value.toLowerCase()) : row.dataset[name] !== value));
      shown += !row.hidden;
    }
    form.querySelector("output").value = `${shown} of ${rows.length} shown`;
  };
  const choose = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) {
      const value = asked.get(field.name) ?? "";
      field.value = value;
      if (field.value !== value) field.value = "";  // not among the choices
    }
    show();
  };
  form.addEventListener("input", () => {
    const chosen = new URLSearchParams(fields.filter(each => each.value).map(each => [each.name, each.value]));
    history.replaceState(null, "", "#" + chosen);
    show();
  });
  form.addEventListener("submit", event => event.preventDefault());
  addEventListener("hashchange", choose);
  form.hidden = false;
  choose();
}
