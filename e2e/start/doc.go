// Package start has only tests. They do what the pages of docs/start say to a newcomer: write the files, run the commands,
// and look at the event, in a terminal and in a browser.
package start
