// Keyboard shortcuts of every page; listed on the Help page.
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.target.isContentEditable;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const button = document.querySelector("#generate-button");
    if (button && !button.disabled) { button.click(); event.preventDefault(); }
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    const field = document.querySelector("#search textarea, #search input, #prompt textarea");
    if (field) { field.focus(); event.preventDefault(); }
    return;
  }
  const pages = { g: "./", r: "runs", c: "compare", e: "export", b: "batch", h: "help" };
  if (event.key in pages) window.location.href = pages[event.key];
});
