# SPDX-License-Identifier: Apache-2.0
"""How our parts of the web UI look: with the theme's own colours, for light and for dark screens."""

from __future__ import annotations


CSS = """
#mmself-preview { flex-shrink: 0; }
#mmself-progress .pending, #mmself-log .pending { opacity: 1 !important; } /* they are looked at again all the time */
.mmself { font-size: .93rem; color: var(--body-text-color); }
.mmself .mmself-card { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  background: var(--block-background-fill); padding: 14px 16px; margin-bottom: 12px; display: flex; gap: 18px; }
.mmself .mmself-side { flex: 0 0 auto; display: flex; gap: 10px; align-items: flex-start; flex-wrap: wrap;
  max-width: 380px; }
.mmself .mmself-main { flex: 1 1 0; min-width: 0; }
@media (max-width: 760px) { .mmself .mmself-card { flex-direction: column; } }
.mmself figure { margin: 0; width: 170px; } .mmself figure img { width: 100%; border-radius: 6px; background: #fff;
  border: 2px solid var(--border-color-primary); image-rendering: auto; }
.mmself figure.good img { border-color: #16a06a; } .mmself figure.bad img { border-color: #d9593d; }
.mmself figcaption { font-size: .8rem; color: var(--body-text-color-subdued); margin-top: 3px; text-align: center; }
.mmself .mmself-gone { border: 1px dashed var(--border-color-primary); border-radius: 6px; padding: 26px 8px;
  text-align: center; font-size: .8rem; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
.mmself .mmself-label { font-size: .8rem; color: var(--body-text-color-subdued); margin: 8px 0 2px; }
.mmself .mmself-label:first-child { margin-top: 0; }
.mmself .mmself-text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5; padding: 6px 10px;
  border-radius: 6px; background: var(--background-fill-secondary); border-left: 3px solid var(--border-color-primary);
  max-height: 340px; overflow-y: auto; }
.mmself .mmself-text.good { border-left-color: #16a06a; } .mmself .mmself-text.bad { border-left-color: #d9593d; }
.mmself .mmself-text.asked { background: none; border: 0; padding: 0; font-weight: 600; }
.mmself mark { background: rgba(240, 185, 11, .32); color: inherit; border-radius: 3px; padding: 0 1px; }
.mmself mark.new { background: rgba(22, 160, 106, .28); } .mmself mark.gone { background: rgba(217, 89, 61, .26);
  text-decoration: line-through; }
.mmself .mmself-badge { display: inline-block; padding: 0 9px; border-radius: 999px; font-size: .8rem;
  margin-right: 6px; border: 1px solid var(--border-color-primary); white-space: nowrap; max-width: 320px;
  overflow: hidden;
  text-overflow: ellipsis; vertical-align: bottom; }
.mmself .mmself-badge.good { color: #0c7a50; background: rgba(22, 160, 106, .16); border-color: transparent; }
.mmself .mmself-badge.bad { color: #b3361b; background: rgba(217, 89, 61, .16); border-color: transparent; }
.mmself .mmself-badge.none { color: var(--body-text-color-subdued); background: var(--background-fill-secondary);
  border-color: transparent; }
.mmself .mmself-badge.work { color: #1260b8; background: rgba(40, 120, 220, .16); border-color: transparent; }
.dark .mmself .mmself-badge.good { color: #58d8a4; } .dark .mmself .mmself-badge.bad { color: #ff9676; }
.dark .mmself .mmself-badge.work { color: #7db8ff; }
.mmself .mmself-state { display: flex; gap: 8px; align-items: center; flex-wrap: wrap; margin-bottom: 8px; }
.mmself .mmself-bar { height: 6px; border-radius: 3px; background: var(--background-fill-secondary); overflow: hidden;
  margin: 4px 0 8px; } .mmself .mmself-bar div { height: 100%; background: var(--color-accent); }
.mmself .mmself-round { display: flex; gap: 8px; padding: 5px 0; border-top: 1px solid var(--border-color-primary); }
.mmself .mmself-round .who { flex: 0 0 58px; font-weight: 600; }
.mmself .mmself-round .steps { display: flex; flex-wrap: wrap; gap: 5px; }
.mmself .mmself-soft { color: var(--body-text-color-subdued); }
.mmself pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; max-height: 320px; overflow-y: auto;
  padding: 8px 10px; border-radius: 6px; background: var(--background-fill-secondary); margin: 4px 0; }
.mmself iframe { width: 100%; height: 760px; border: 1px solid var(--border-color-primary); border-radius: 6px; }
"""


#: A part of a page that brings the style sheet, so that no page of LlamaBoard has to be changed for it.
STYLE = f"<style>{CSS}</style>"


def block(content: str) -> str:
    """HTML that has our style."""
    return f'<div class="mmself">{content}</div>' if content else ""
