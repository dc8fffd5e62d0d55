(() => {
  const root = document.documentElement, key = "deepseek-theme";
  let kept = null;
  try { kept = localStorage.getItem(key); } catch {}
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  const themed = (button) => {
    const name = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem(key, root.dataset.theme); } catch {}
      name();
    });
  };

  const copying = (button) => {
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
        button.textContent = "Copied";
      } catch { button.textContent = "Not allowed here"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  };

  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const value = (row) => {
        const cell = row.cells[place], given = cell.dataset.value;
        return given === undefined ? cell.textContent : Number(given);
      };
      const order = (a, b) => typeof a === "number" && typeof b === "number"
        ? (Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : a - b) : String(a).localeCompare(String(b));
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "ascending" : "descending");
        body.append(...[...body.rows].sort((a, b) => (down ? 1 : -1) * order(value(a), value(b))));
      });
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("button.theme").forEach(themed);
    document.querySelectorAll("button.copy").forEach(copying);
    document.querySelectorAll("table.sortable").forEach(sortable);
  });
})();
