// Package storm holds the gateway to its promises where many clients and a bad backend meet. The backend fails, is
// slow, silent or away. It keeps a ledger of which tokens it has to believe open, and that is held against what
// clients see, and against what the gateway lists.
package storm
