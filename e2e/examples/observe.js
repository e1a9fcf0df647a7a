// Tells the test what the page of examples/browser shows, after each change of the document and every
// 50 ms. `report` is the test's binding.
(() => {
  const seen = [];
  const observe = () => {
    const text = (id) => document.getElementById(id)?.textContent;
    if (!text("value")) return;
    seen.push({ at: Date.now(), claim: text("state") === "up to date", version: Number(text("version")), value: Number(text("value")) });
  };
  const tell = () => { if (seen.length > 0) report(JSON.stringify(seen.splice(0))); };
  new MutationObserver(observe).observe(document, { subtree: true, childList: true, characterData: true });
  setInterval(() => { observe(); tell(); }, 50);
  addEventListener("pagehide", tell);
})();
