
for (const film of document.querySelectorAll(".film")) {
  const frames = [...film.querySelectorAll("figure")];
  const [button, slider] = [film.querySelector("button"), film.querySelector("input")];
  let timer = null;
  const show = (number) => {
    slider.value = number;
    frames.forEach((frame, index) => frame.classList.toggle("now", index === Number(number)));
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  };
  slider.addEventListener("input", () => { stop(); show(slider.value); });
  button.addEventListener("click", () => {
    if (timer) return stop();
    button.textContent = "Pause";
    timer = setInterval(() => show((Number(slider.value) + 1) % frames.length), 250);
  });
  film.classList.add("one");
  film.querySelector(".controls").hidden = frames.length < 2;
}

const valueOf = (row, column) => {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
};

// Numbers before texts, and what is empty or not a number last.
const compare = (a, b) => {
  const lacks = (value) => value === "" || Number.isNaN(value);
  if (lacks(a) || lacks(b)) return lacks(a) - lacks(b);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
};

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, other) => {
        const [a, b] = [valueOf(one, column), valueOf(other, column)];
        const order = compare(a, b);
        return falls && a !== "" && b !== "" ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
