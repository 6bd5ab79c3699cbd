package config

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/npcnix/npcnix/apis/meta"
)

// KindReconcilerConfig is the kind of the agent's configuration file.
const KindReconcilerConfig = "ReconcilerConfig"

// Where the agent finds its configuration and keeps its state by default.
const (
	defaultReconcilerFile = "/etc/npcnix/reconciler.yaml"
	defaultStateDir       = "/var/lib/npcnix"
)

// ReconcilerConfig configures npcnix-reconciler.
type ReconcilerConfig struct {
	meta.TypeMeta

	// Store is the store's URL.
	Store string `json:"store,omitempty"`
	// Host is the name under which the host is declared; default: its host name.
	Host string `json:"host,omitempty"`
	// StateDir is the agent's own directory; default: /var/lib/npcnix.
	StateDir string `json:"stateDir,omitempty"`
	Log      Log    `json:"log,omitzero"`
	// HealthChecks are the commands that exec checks name, and how far the
	// other checks reach.
	HealthChecks HealthChecks `json:"healthChecks,omitzero"`
}

// HealthChecks are what a HostSpec may not say, as it carries no program.
type HealthChecks struct {
	// Commands are argument vectors by the name that an exec check gives.
	Commands map[string][]string `json:"commands,omitempty"`
	// AllowRemote lets http and tcp checks reach other machines than this one.
	AllowRemote bool `json:"allowRemote,omitempty"`
}

// Log says how to log.
type Log struct {
	// Format is json or console.
	Format string `json:"format,omitempty"`
	// Level is info or debug.
	Level string `json:"level,omitempty"`
}

// Validate returns every fault of the configuration, each with its field path.
func (c *ReconcilerConfig) Validate() field.ErrorList {
	var errs field.ErrorList
	if c.Host != "" {
		for _, fault := range validation.IsDNS1123Subdomain(c.Host) {
			errs = append(errs, field.Invalid(field.NewPath("host"), c.Host, fault))
		}
	}
	if c.StateDir != "" && !filepath.IsAbs(c.StateDir) {
		errs = append(errs, field.Invalid(field.NewPath("stateDir"), c.StateDir, "must be an absolute path"))
	}
	errs = append(errs, c.HealthChecks.validate(field.NewPath("healthChecks", "commands"))...)
	log := field.NewPath("log")
	if f := c.Log.Format; f != "" && f != "json" && f != "console" {
		errs = append(errs, field.NotSupported(log.Child("format"), f, []string{"json", "console"}))
	}
	if l := c.Log.Level; l != "" && l != "info" && l != "debug" {
		errs = append(errs, field.NotSupported(log.Child("level"), l, []string{"info", "debug"}))
	}
	return errs
}

func (h HealthChecks) validate(path *field.Path) (errs field.ErrorList) {
	for name, argv := range h.Commands {
		for _, fault := range validation.IsDNS1123Label(name) {
			errs = append(errs, field.Invalid(path.Key(name), name, fault))
		}
		if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
			errs = append(errs, field.Invalid(path.Key(name), argv, "must be a list of words that begins with an absolute path"))
		}
	}
	return errs
}

// LoadReconciler returns the agent's configuration: what flags say, else the
// environment, else the file, else the defaults. root is / or what stands for
// it; file is what --config names, if anything.
func LoadReconciler(root, file string, flags ReconcilerConfig, getenv Getenv) (*ReconcilerConfig, error) {
	named := first(file, getenv("NPCNIX_CONFIG"))
	c, err := load[ReconcilerConfig](first(named, filepath.Join(root, defaultReconcilerFile)), KindReconcilerConfig, named != "")
	if err != nil {
		return nil, err
	}
	c.Store = first(flags.Store, getenv("NPCNIX_STORE"), c.Store)
	c.Host = first(flags.Host, getenv("NPCNIX_HOST"), c.Host)
	c.StateDir = first(flags.StateDir, getenv("NPCNIX_STATE_DIR"), c.StateDir, filepath.Join(root, defaultStateDir))
	c.Log.Format = first(flags.Log.Format, c.Log.Format, "json")
	c.Log.Level = first(flags.Log.Level, c.Log.Level, "info")
	if c.Host == "" {
		if c.Host, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("find the host's name: %w", err)
		}
	}
	if c.StateDir, err = filepath.Abs(c.StateDir); err != nil {
		return nil, fmt.Errorf("find the state directory: %w", err)
	}
	if errs := c.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("configuration: %w", errs.ToAggregate())
	}
	if c.Store == "" {
		return nil, fmt.Errorf("configuration: no store: set store in %s, NPCNIX_STORE or --store", filepath.Join(root, defaultReconcilerFile))
	}
	return c, nil
}
