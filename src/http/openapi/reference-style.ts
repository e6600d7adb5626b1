/** One column on a phone; from 64 em on the table of contents stands beside it. */
export const style = `
:root {
  color-scheme: light dark;
  --text: #1c2430; --muted: #566173; --line: #dde2ea; --ground: #fff; --raised: #f5f7fa; --accent: #0b5cad;
  --get: #0b5cad; --post: #1b7340; --put: #8a5300; --delete: #b3261e; --string: #1b7340; --number: #8a5300;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e3e8ef; --muted: #9aa6b8; --line: #2c3543; --ground: #11161d; --raised: #1a212b; --accent: #7ab8f5;
    --get: #7ab8f5; --post: #6fcf97; --put: #e8b35c; --delete: #f28b82; --string: #6fcf97; --number: #e8b35c;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; overflow-wrap: break-word;
}
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .5rem; }
h3 { font-size: 1.1rem; line-height: 1.35; margin: 0 0 .5rem; }
h4 { font-size: .8rem; letter-spacing: .04em; text-transform: uppercase; color: var(--muted); margin: 1.5rem 0 .5rem; }
main > h3 { margin-top: 1.25rem; }
h3 a { color: inherit; }
p, ul { margin: .5rem 0; }
ul { padding-left: 1.25rem; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
code { font-size: .875em; background: var(--raised); border-radius: .25rem; padding: .1em .3em; overflow-wrap: anywhere; }
pre {
  margin: .5rem 0; padding: .75rem 1rem; overflow-x: auto; font-size: .8125rem; line-height: 1.5; background: var(--raised);
  border: 1px solid var(--line); border-radius: .5rem; tab-size: 2;
}
pre code { font-size: inherit; background: none; padding: 0; overflow-wrap: normal; }
nav { padding: 1rem 1.25rem; border-bottom: 1px solid var(--line); font-size: .9rem; }
nav h2:first-child { margin-top: 0; }
nav h2 { font-size: .8rem; letter-spacing: .04em; text-transform: uppercase; color: var(--muted); margin: 1.25rem 0 .25rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li a:has(.method) { display: flex; gap: .6rem; align-items: baseline; padding: .3rem 0; color: inherit; }
nav ul.schemas { display: flex; flex-wrap: wrap; gap: .3rem .9rem; }
nav .method { font-size: .68rem; min-width: 3.4rem; }
main { padding: 1.5rem 1.25rem 4rem; max-width: 54rem; }
section.operation, section.schema { border-top: 1px solid var(--line); padding: 1.5rem 0 1rem; }
.address { display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: baseline; margin: 0 0 .75rem; }
.address code { background: none; padding: 0; font-size: .9rem; }
.method { font: 700 .75rem ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; text-transform: uppercase; }
.get { color: var(--get); } .post { color: var(--post); } .put { color: var(--put); } .delete { color: var(--delete); }
.muted { color: var(--muted); }
.members { margin: 0; border: 1px solid var(--line); border-radius: .5rem; }
.members > div { padding: .6rem .9rem; }
.members > div + div { border-top: 1px solid var(--line); }
.members dt { display: flex; flex-wrap: wrap; gap: .1rem .6rem; align-items: baseline; font-size: .875rem; color: var(--muted); }
.members dt > code { color: var(--text); font-weight: 600; }
.members dd { margin: .15rem 0 0; font-size: .9375rem; }
.members dd p { margin: .15rem 0; }
.required { color: var(--delete); }
details { margin: .5rem 0; }
summary { cursor: pointer; }
.answer { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; }
.answer > summary, .shared { padding: .5rem .9rem; }
.answer > div { padding: 0 .9rem .75rem; border-top: 1px solid var(--line); }
.status { font-weight: 700; margin-right: .35rem; }
.ok { color: var(--post); } .no { color: var(--delete); }
.example > p { margin: .75rem 0 0; font-weight: 600; font-size: .9375rem; }
.s { color: var(--string); } .n { color: var(--number); } .k { color: var(--accent); }
@media (min-width: 64em) {
  body { display: grid; grid-template-columns: 21rem minmax(0, 1fr); }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; border-bottom: 0; border-right: 1px solid var(--line); }
  main { padding: 2rem 3rem 6rem; }
}
@media print { nav { display: none; } }
`;
