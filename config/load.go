package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/npcnix/npcnix/apis/codec"
)

// Getenv looks a variable up in the environment; it is os.Getenv.
type Getenv func(name string) string

// load reads a configuration file. One that is not there is fine unless
// somebody named it.
func load[T any](path, kind string, named bool) (*T, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return new(T), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > codec.MaxDocumentSize {
		return nil, fmt.Errorf("read configuration %s: %w", path, codec.ErrTooLarge)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return codec.DecodeStrict[T](codec.Document{Source: path, Raw: data}, kind)
}

// first returns the first value that is not empty.
func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
