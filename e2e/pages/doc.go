// Package pages has only tests. They are about what web/ gives to pages, and about docs/pages.md, in tabs of a real Chromium.
package pages
