// Runs in a page: what is wider than the window, and the colours of every text that is seen, but for those on pictures.
(() => {
  const limit = document.documentElement.clientWidth + 0.5;
  const scrolls = (element) => element.closest(".scroll, pre, .report") !== null;
  const wide = [...document.body.querySelectorAll("*")]
    .filter(
      (element) => element.checkVisibility() && !scrolls(element) && element.getBoundingClientRect().right > limit,
    )
    .map((element) => `${element.tagName}.${element.getAttribute("class")}: ${element.getBoundingClientRect().right}`);
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const text = node.textContent.trim();
    if (text === "" || !element.checkVisibility() || element.closest("script, style, title, .screen")) continue;
    const style = getComputedStyle(element);
    const grounds = [];
    for (let around = element; around; around = around.parentElement)
      grounds.push(getComputedStyle(around).backgroundColor);
    texts.push({ text, color: element.closest("svg") ? style.fill : style.color, grounds });
  }
  return { wide, texts };
})();
