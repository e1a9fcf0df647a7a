// Package epoll serves sockets without package net, on Linux: an epoll set that one goroutine
// waits for, and the system calls of its sockets.
package epoll
