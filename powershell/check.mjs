// Checks that PowerShell can be parsed: every file of the module, and every block
// of PowerShell in the documents. Run it with: npm run check
//
// No PowerShell runs where this project is built, so the grammar of tree-sitter
// stands in for it. It wrongly refuses lists of bare words, such as
// Select-Object Name, State: quote the words.

import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Language, Parser } from 'web-tree-sitter';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);

await Parser.init();
const parser = new Parser();
parser.setLanguage(await Language.load(join(here, 'node_modules/tree-sitter-powershell/tree-sitter-powershell.wasm')));

// files lists what a folder holds, at any depth, that ends in one of the names.
function files(folder, ends) {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((name) => !name.includes('node_modules') && ends.some((end) => name.endsWith(end)))
    .sort();
}

// blocks gives the fenced blocks of PowerShell in Markdown, with the line before
// each.
function blocks(text) {
  const found = [];
  let block = null;
  text.split('\n').forEach((line, i) => {
    const fence = /^\s*(```+)\s*(\w*)/.exec(line);
    if (block && fence && line.trim() === block.fence) {
      if (/^(powershell|ps1|pwsh)$/i.test(block.language)) found.push({ line: block.line, text: block.lines.join('\n') + '\n' });
      block = null;
    } else if (block) {
      block.lines.push(line);
    } else if (fence) {
      block = { fence: fence[1], language: fence[2], line: i + 1, lines: [] };
    }
  });
  return found;
}

// mistakes lists the nodes that do not fit the grammar.
function mistakes(node, list = []) {
  if (node.isError || node.isMissing) {
    list.push(node);
  } else if (node.hasError) {
    for (const child of node.children) mistakes(child, list);
  }
  return list;
}

let parsed = 0;
let failed = 0;
function check(path, text, above = 0) {
  parsed++;
  const tree = parser.parse(text);
  for (const node of mistakes(tree.rootNode)) {
    failed++;
    const what = node.isMissing ? `${node.type} is missing` : `not understood: ${node.text.split('\n')[0].slice(0, 80)}`;
    console.error(`${relative(root, path)}:${above + node.startPosition.row + 1}:${node.startPosition.column + 1}: ${what}`);
  }
  tree.delete();
}

// The check must be able to fail.
if (mistakes(parser.parse('function f { if ($a { } }').rootNode).length === 0) {
  console.error('check.mjs: the grammar accepts what is wrong');
  process.exit(2);
}

const scripts = files(join(here, 'OpenCMG'), ['.ps1', '.psm1', '.psd1']);
for (const path of scripts) check(path, readFileSync(path, 'utf8'));
let examples = 0;
for (const path of [join(root, 'README.md'), ...files(join(root, 'docs'), ['.md'])]) {
  for (const block of blocks(readFileSync(path, 'utf8'))) {
    examples++;
    check(path, block.text, block.line);
  }
}
if (scripts.length === 0 || examples === 0) {
  console.error(`check.mjs: ${scripts.length} files and ${examples} blocks of PowerShell found: something is not where it was`);
  process.exit(2);
}
console.log(`PowerShell: ${scripts.length} files and ${examples} blocks in documents parsed, ${failed} mistakes`);
process.exit(failed === 0 ? 0 : 1);
