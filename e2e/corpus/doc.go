// Package corpus has only tests. They send raw requests, well formed, odd and malicious, to the
// gateway, directly and through real proxies, and hold what happens against frozen answers.
package corpus
