package host

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/npcnix/npcnix/reconciler/statefile"
)

// machineIDKey keys the hash, as machine-id(5) asks of those who publish an id.
const machineIDKey = "npcnix.dev machine id"

// loadMachineID returns an id by which a host is told from its clone: a keyed
// hash of the machine's own, or a random one kept in the state directory.
func (r *Reconciler) loadMachineID() (string, error) {
	data, err := os.ReadFile(r.opts.MachineIDFile)
	if id := bytes.TrimSpace(data); err == nil && len(id) == 32 {
		return hashID(id), nil
	}
	own := r.ownMachineID()
	data, err = statefile.Read(own)
	data = bytes.TrimSpace(data)
	if err == nil && len(data) != len(rand.Text()) {
		err = statefile.Unusable("not an id")
	}
	switch {
	case err == nil:
		return hashID(data), nil
	case errors.Is(err, statefile.ErrUnusable):
		if err := r.setAside(own, err); err != nil {
			return "", err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read machine id: %w", err)
	}
	id := rand.Text()
	if err := statefile.Write(own, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("keep machine id: %w", err)
	}
	return hashID([]byte(id)), nil
}

func (r *Reconciler) ownMachineID() string { return filepath.Join(r.opts.StateDir, "machine-id") }

func hashID(id []byte) string {
	mac := hmac.New(sha256.New, []byte(machineIDKey))
	_, _ = mac.Write(id) // a hash never fails
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
