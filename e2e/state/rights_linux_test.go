package state

import (
	"errors"
	"os"
	"testing"
)

// A directory of another user's is an error that says which user the gateway is: in a container that is none of the
// host's.
func TestNoRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a directory of another user's needs root")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, 65532, 65532)); err != nil {
		t.Fatal(err)
	}
	// Root without its right to pass over the rights of others.
	user := []string{"setpriv", "--bounding-set=-dac_override,-dac_read_search"}
	refusedAs(t, user, dir, "[ERROR] STATE_DIR: ", dir, "permission denied", "give the directory to user 0")
	refusedAs(t, user, dir+"/new", dir+"/new", "permission denied", "give the directory to user 0")
}
