// Package epoll has what sockets need that are served without net: a set of them that
// one goroutine waits for, and their system calls. It is for Linux.
package epoll
