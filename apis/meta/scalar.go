package meta

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Time is an instant, written as RFC 3339 in UTC with whole seconds, as
// Kubernetes does. The zero Time is written as null.
type Time struct{ time.Time }

// NewTime returns t as it will be read back: in UTC, without fractions of a second.
func NewTime(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	return Time{t.UTC().Truncate(time.Second)}
}

// MarshalJSON writes RFC 3339, or null for the zero Time.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return strconv.AppendQuote(nil, t.UTC().Format(time.RFC3339)), nil
}

// UnmarshalJSON reads RFC 3339 or null.
func (t *Time) UnmarshalJSON(data []byte) error {
	s, ok, err := text(data)
	if err != nil || !ok {
		*t = Time{}
		return err
	}
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return fmt.Errorf("%q is not an RFC 3339 time such as 2026-11-22T10:00:00Z", s)
	}
	*t = Time{parsed.UTC()}
	return nil
}

// Short writes a duration for people, without the zero units that Go appends: 2h.
func Short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Duration is written as Go's duration string, such as 2h0m0s.
type Duration struct{ time.Duration }

// MarshalJSON writes Go's duration string.
func (d Duration) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, d.String()), nil
}

// UnmarshalJSON reads Go's duration string; days and weeks are not units.
func (d *Duration) UnmarshalJSON(data []byte) error {
	s, ok, err := text(data)
	if err != nil || !ok {
		*d = Duration{}
		return err
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 90s, 15m or 168h", s)
	}
	d.Duration = parsed
	return nil
}

// ByteSize is a number of bytes, written as an integer with one of the units
// B, KiB, MiB and GiB.
type ByteSize int64

// Units of ByteSize, in bytes.
const (
	Byte     ByteSize = 1
	Kibibyte          = 1024 * Byte
	Mebibyte          = 1024 * Kibibyte
	Gibibyte          = 1024 * Mebibyte
)

// String writes the size in the greatest unit that keeps it an integer.
func (s ByteSize) String() string {
	switch {
	case s != 0 && s%Gibibyte == 0:
		return strconv.FormatInt(int64(s/Gibibyte), 10) + "GiB"
	case s != 0 && s%Mebibyte == 0:
		return strconv.FormatInt(int64(s/Mebibyte), 10) + "MiB"
	case s != 0 && s%Kibibyte == 0:
		return strconv.FormatInt(int64(s/Kibibyte), 10) + "KiB"
	default:
		return strconv.FormatInt(int64(s), 10) + "B"
	}
}

// MarshalJSON writes what String returns.
func (s ByteSize) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, s.String()), nil
}

// UnmarshalJSON reads an integer with a unit.
func (s *ByteSize) UnmarshalJSON(data []byte) error {
	str, ok, err := text(data)
	if err != nil || !ok {
		*s = 0
		return err
	}
	parts := regexp.MustCompile(`^([0-9]+)(B|KiB|MiB|GiB)$`).FindStringSubmatch(str)
	if parts == nil {
		return fmt.Errorf("%q is not a size such as 512MiB or 2GiB", str)
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	unit := map[string]ByteSize{"B": Byte, "KiB": Kibibyte, "MiB": Mebibyte, "GiB": Gibibyte}[parts[2]]
	if err != nil || n > int64(1<<62)/int64(unit) {
		return fmt.Errorf("%q is too large", str)
	}
	*s = ByteSize(n) * unit
	return nil
}

// text reads a JSON string; ok is false for null.
func text(data []byte) (s string, ok bool, err error) {
	if string(data) == "null" {
		return "", false, nil
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return "", false, fmt.Errorf("expected a string, found %s", data)
	}
	return s, true, nil
}
