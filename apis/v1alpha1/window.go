package v1alpha1

import "github.com/npcnix/npcnix/apis/meta"

// MaintenanceWindow says when gated steps may start: when an entry of Allow is
// active (or there is none) and no entry of Deny is.
type MaintenanceWindow struct {
	// TimeZone is an IANA name or UTC.
	TimeZone string        `json:"timeZone"`
	Allow    []WindowEntry `json:"allow,omitempty"`
	Deny     []WindowEntry `json:"deny,omitempty"`
	// Gates are the steps that wait for the window; default: Activate and Reboot.
	Gates []Gate `json:"gates,omitempty"`
	// Splay spreads the hosts over the first part of an opening; default 0s.
	Splay *meta.Duration `json:"splay,omitempty"`
}

// WindowEntry is weekly (Days, Start, Duration) or dated (From, Until), never both.
type WindowEntry struct {
	Name string `json:"name"`
	// Days on which the window opens; absent: every day.
	Days []Weekday `json:"days,omitempty"`
	// Start is the local time of day, 00:00 to 23:59.
	Start string `json:"start,omitempty"`
	// Duration is elapsed time, 5m to 168h.
	Duration *meta.Duration `json:"duration,omitempty"`
	// From and Until are local times without offset; the span is half-open.
	From  string `json:"from,omitempty"`
	Until string `json:"until,omitempty"`
}

// LocalTimeLayout is the layout of WindowEntry's From and Until.
const LocalTimeLayout = "2006-01-02T15:04:05"

// TimeOfDayLayout is the layout of WindowEntry's Start.
const TimeOfDayLayout = "15:04"

// Weekday is a day of the week by its first three letters.
type Weekday string

// Gate is a step that may be made to wait for the window.
type Gate string

// The steps that can be gated.
const (
	GateBuild    Gate = "Build"
	GateActivate Gate = "Activate"
	GateReboot   Gate = "Reboot"
)
