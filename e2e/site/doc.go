// Package site tests the documents as a site, as `make docs` builds it: the navigation, the links, and in Chromium the search, the drawings and the colours.
package site
