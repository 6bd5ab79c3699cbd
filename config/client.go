package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/npcnix/npcnix/apis/meta"
)

// KindClientConfig is the kind of the operator's configuration file.
const KindClientConfig = "ClientConfig"

// ClientConfig configures npcnix: stores under short names.
type ClientConfig struct {
	meta.TypeMeta

	// CurrentContext is the context that is used where none is named.
	CurrentContext string    `json:"currentContext,omitempty"`
	Contexts       []Context `json:"contexts,omitempty"`
}

// Context gives a store a name.
type Context struct {
	Name  string `json:"name"`
	Store string `json:"store"`
}

// Validate returns every fault of the configuration, each with its field path.
func (c *ClientConfig) Validate() field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, ctx := range c.Contexts {
		at := field.NewPath("contexts").Index(i)
		if ctx.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if ctx.Store == "" {
			errs = append(errs, field.Required(at.Child("store"), ""))
		}
		if seen[ctx.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), ctx.Name))
		}
		seen[ctx.Name] = true
	}
	if c.CurrentContext != "" && !seen[c.CurrentContext] {
		errs = append(errs, field.Invalid(field.NewPath("currentContext"), c.CurrentContext, "is not in contexts"))
	}
	return errs
}

// ClientFlags are what npcnix's command line says about the store.
type ClientFlags struct{ Config, Context, Store string }

// ErrNoStore is returned when nothing names a store.
var ErrNoStore = errors.New("no store: use --store URL, set NPCNIX_STORE, or name one in the configuration file")

// LoadStore returns the URL of the store to use: the one that is named, else
// that of the named context, else that of the current one. As flags beat the
// environment, --context beats NPCNIX_STORE.
func LoadStore(flags ClientFlags, getenv Getenv) (string, error) {
	if flags.Store != "" {
		return flags.Store, nil
	}
	if url := getenv("NPCNIX_STORE"); url != "" && flags.Context == "" {
		return url, nil
	}
	home := first(getenv("XDG_CONFIG_HOME"), filepath.Join(getenv("HOME"), ".config"))
	path := first(flags.Config, filepath.Join(home, "npcnix", "config.yaml"))
	c, err := load[ClientConfig](path, KindClientConfig, flags.Config != "")
	if err != nil {
		return "", err
	}
	name := first(flags.Context, getenv("NPCNIX_CONTEXT"), c.CurrentContext)
	if name == "" {
		return "", ErrNoStore
	}
	i := slices.IndexFunc(c.Contexts, func(ctx Context) bool { return ctx.Name == name })
	if i < 0 {
		var names []string
		for _, ctx := range c.Contexts {
			names = append(names, ctx.Name)
		}
		return "", fmt.Errorf("no context %s in %s, there are: %s", name, path, strings.Join(names, ", "))
	}
	return c.Contexts[i].Store, nil
}
