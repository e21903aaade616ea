// What happens in the visitor's browser alone: clicks become places, the map is put together, the address holds the state.
(function () {
  const none = () => window.dash_clientside.no_update;
  // What an address holds, in the order in which callbacks.py hands it over.
  const KEPT = ["place", "pair", "sums", "asked", "tab", "colour", "layers", "kind", "steps", "own", "sum-a", "sum-b", "sum-c",
    "path-a", "path-b", "steer-text", "attribute", "strength"];
  let written = null; // the part of the address that this page wrote last

  function readAddress(hash) {
    try { return JSON.parse(decodeURIComponent((hash || "").slice(1))) || {}; } catch (error) { return {}; }
  }

  function nearest(base, x, y) { // the sentence under a point that was drawn, or the point itself
    let best = null, least = Infinity;
    const span = base.span, data = base.data;
    for (let i = 0; i < data.x.length; i++) {
      const d = Math.hypot((data.x[i] - x) / span[0], (data.y[i] - y) / span[1]);
      if (d < least) { least = d; best = i; }
    }
    return least < 0.012 ? {index: best} : {xy: [x, y]};
  }

  function clicked(data) {
    const point = (data.points || [])[0];
    if (point && point.customdata != null) {
      const [kind, number] = String(point.customdata).split(":");
      return {[kind]: Number(number)};
    }
    if (data.xvals) return {xy: [data.xvals[0], data.yvals[0]]};
    return point ? {xy: [point.x, point.y]} : null;
  }

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.explorer = {
    // The state that the address holds, when the page opens or a link is pasted.
    restore: function (hash) {
      if (written !== null && hash === written) return KEPT.map(() => none());
      const state = Object.assign({place: {index: 0}}, readAddress(hash));
      return KEPT.map((name) => (name in state ? state[name] : none()));
    },

    // The address of what is shown; it is replaced, so that the button Back leaves the page.
    save: function (...values) {
      const turned = values[KEPT.length], state = {};
      KEPT.forEach((name, i) => { if (values[i] != null && values[i] !== "") state[name] = values[i]; });
      if (turned && Object.keys(turned.turns).length) state.place = {z: turned.z};
      written = "#" + encodeURIComponent(JSON.stringify(state));
      window.history.replaceState(null, "", window.location.pathname + written);
      return none();
    },

    ask: (clicks, enter, text) => (clicks || enter ? text || "" : none()),
    askPair: (clicks, enterA, enterB, a, b) => (clicks || enterA || enterB ? {a: {text: a || ""}, b: {text: b || ""}} : none()),
    askSum: (clicks, enterA, enterB, enterC, ...texts) =>
      (clicks || enterA || enterB || enterC ? texts.map((text) => text || "") : none()),

    share: function (clicks) {
      if (!clicks) return none();
      if (navigator.clipboard) navigator.clipboard.writeText(window.location.href);
      setTimeout(() => { const b = document.getElementById("share"); if (b) b.textContent = "Copy link"; }, 1500);
      return navigator.clipboard ? "Copied" : "The address is the link";
    },

    // A click on the map: a place to look at, or an end of a path; or a line that was drawn.
    click: function (data, moved, mode, base, pair, draft) {
      const by = (window.dash_clientside.callback_context.triggered[0] || {}).prop_id || "";
      const keep = [none(), none(), none()];
      if (by.startsWith("map.relayoutData")) {
        const lines = moved && moved.shapes;
        if (!lines || !lines.length) return keep;
        const l = lines[lines.length - 1];
        if (l.x0 === l.x1 && l.y0 === l.y1) return keep;
        return [none(), {a: nearest(base, l.x0, l.y0), b: nearest(base, l.x1, l.y1)}, "path"];
      }
      const place = data && clicked(data);
      if (!place) return keep;
      if ("step" in place) return keep;
      if (mode !== "draw") return [place, none(), "place"];
      if (pair && pair.a && !pair.b) return [none(), {a: pair.a, b: place}, "path"];
      return [none(), {a: place}, "path"];
    },

    tabs: function (tab) {
      return ["place", "path", "add", "read", "health"].map((name) => (name === tab ? "" : "hidden"));
    },

    hint: function (mode, found, query, pair) {
      if (query) return (found || []).length + " found for “" + query + "”, ringed on the map.";
      if (mode === "draw") {
        return pair && pair.a && !pair.b ? "Now click where the path shall end." : "Drag from one point to another, or click two.";
      }
      return "Click a point, or empty ground, to see what decodes there. Scroll to zoom, drag to move.";
    },

    search: function (query, base) {
      const words = (query || "").toLowerCase().trim();
      if (!words || !base) return [];
      const found = [];
      base.texts.forEach((text, i) => { if (text.toLowerCase().includes(words)) found.push(i); });
      return found;
    },

    // The step of a path that the slider shows, and the button that moves it.
    step: function (number, walked) {
      if (!walked || !walked.steps.length) return ["", "hidden"];
      const s = walked.steps[Math.min(number, walked.steps.length - 1)];
      document.querySelectorAll("#steps-list li").forEach((li, i) => li.classList.toggle("now", i === number));
      return [s.text || "(empty)", ""];
    },
    length: (walked) => (walked && walked.steps.length ? [walked.steps.length - 1, 0] : [none(), none()]),
    play: (clicks, off) => (clicks ? [!off, off ? "Pause" : "Play"] : [none(), none()]),
    advance: (ticks, number, last) => (number >= last ? 0 : number + 1),

    // The map: the layers from the server, and over them what this visitor has chosen.
    draw: function (base, here, turned, walked, number, found, mode, tab, pair) {
      if (!base) return none();
      const data = base.traces.slice(), layout = Object.assign({}, base.layout);
      const dark = window.matchMedia("(prefers-color-scheme: dark)").matches, ink = dark ? "#ffffff" : "#101418";
      const ring = (xy, size, symbol, width) => ({type: "scatter", mode: "markers", x: [xy[0]], y: [xy[1]], hoverinfo: "skip",
        showlegend: false, marker: {size, symbol, color: dark ? "#1d2126" : "#ffffff", line: {width, color: ink}}});
      if (found && found.length) {
        data.push({type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false, x: found.map((i) => base.data.x[i]),
          y: found.map((i) => base.data.y[i]), marker: {size: 13, symbol: "circle-open", color: ink, line: {width: 2}}});
      }
      if (walked && walked.steps.length) {
        const s = walked.steps;
        data.push({type: "scatter", mode: "lines+markers", x: s.map((p) => p.xy[0]), y: s.map((p) => p.xy[1]), showlegend: false,
          hovertext: s.map((p) => p.hover), hovertemplate: "%{hovertext}<extra></extra>", customdata: s.map((_, i) => "step:" + i),
          line: {width: 3, color: "#D55E00"}, marker: {size: 9, color: "#D55E00", line: {width: 1, color: "#ffffff"}}});
        if (tab === "path") data.push(ring(s[Math.min(number || 0, s.length - 1)].xy, 15, "circle", 3));
      }
      if (pair && pair.a && !pair.b && pair.a.xy) data.push(ring(pair.a.xy, 12, "x", 1));
      if (pair && pair.a && !pair.b && pair.a.index != null) {
        data.push(ring([base.data.x[pair.a.index], base.data.y[pair.a.index]], 12, "x", 1));
      }
      if (here && here.xy) data.push(ring(here.xy, 14, "circle-cross", 2));
      if (turned && turned.turns && Object.keys(turned.turns).length) data.push(ring(turned.xy, 12, "diamond", 2));
      layout.dragmode = mode === "draw" ? "drawline" : "pan";
      layout.newshape = {line: {color: "#D55E00", width: 3}};
      layout.shapes = [];
      layout.datarevision = Math.random();
      return {data, layout};
    },
  };
})();
