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

	"github.com/google/renameio/v2"
)

// machineIDKey keys the hash, as machine-id(5) asks of those who publish an id.
const machineIDKey = "npcnix.dev machine id"

// machineID returns an id by which a host is told from its clone: a keyed hash
// of the machine's own, or a random one kept in the state directory.
func machineID(file, stateDir string) (string, error) {
	data, err := os.ReadFile(file)
	if id := bytes.TrimSpace(data); err == nil && len(id) == 32 {
		return hashID(id), nil
	}
	own := filepath.Join(stateDir, "machine-id")
	data, err = os.ReadFile(own)
	if err == nil && len(bytes.TrimSpace(data)) > 0 {
		return hashID(bytes.TrimSpace(data)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read machine id: %w", err)
	}
	id := rand.Text()
	if err := renameio.WriteFile(own, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep machine id: %w", err)
	}
	return hashID([]byte(id)), nil
}

func hashID(id []byte) string {
	mac := hmac.New(sha256.New, []byte(machineIDKey))
	_, _ = mac.Write(id) // a hash never fails
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
