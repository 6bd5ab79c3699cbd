package store

import (
	"errors"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// Location is a parsed store URL.
type Location struct {
	// Dir is the directory of a file store; empty for S3.
	Dir string
	// Bucket and Prefix are where an S3 store begins; Prefix is empty or ends with "/".
	Bucket, Prefix string
	// Region, Endpoint and PathStyle override the environment where they are set.
	Region, Endpoint string
	PathStyle        bool
}

const forms = "expected file:///path, file://./path or s3://bucket/prefix?region=…&endpoint=…&pathStyle=true"

// ParseURL reads a store URL. Its errors never repeat the URL: it may hold
// credentials by mistake.
func ParseURL(raw string) (Location, error) {
	if raw == "" {
		return Location{}, errors.New("store URL is empty, " + forms)
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	switch {
	case ok && scheme == "file":
		return parseFile(rest)
	case ok && scheme == "s3":
		return parseS3(raw)
	default:
		return Location{}, errors.New("store URL has an unknown scheme, " + forms)
	}
}

// parseFile takes everything behind file:// as a path, percent-encoding decoded.
func parseFile(rest string) (Location, error) {
	if strings.ContainsAny(rest, "?#") {
		return Location{}, errors.New("file store URL takes no parameters, " + forms)
	}
	path, err := url.PathUnescape(rest)
	if err != nil {
		return Location{}, errors.New("file store URL has a malformed % escape")
	}
	relative := path == "." || path == ".." || strings.HasPrefix(path, "./") || strings.HasPrefix(path, "../")
	if !relative && !strings.HasPrefix(path, "/") {
		return Location{}, errors.New("file store URL needs an absolute path or one that begins with ./, " + forms)
	}
	return Location{Dir: filepath.Clean(path)}, nil
}

func parseS3(raw string) (Location, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Location{}, errors.New("s3 store URL is malformed, " + forms)
	}
	if u.User != nil {
		return Location{}, errors.New("s3 store URL must not hold credentials; use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or an instance role")
	}
	if u.Host == "" || u.Port() != "" || u.Fragment != "" {
		return Location{}, errors.New("s3 store URL needs a bucket, " + forms)
	}
	loc := Location{Bucket: u.Host}
	if prefix := strings.Trim(u.Path, "/"); prefix != "" {
		if ValidateKey(prefix) != nil {
			return Location{}, errors.New("s3 store URL's prefix has empty or relative segments, or control characters")
		}
		loc.Prefix = prefix + "/"
	}
	return loc, loc.setAll(u.RawQuery)
}

func (l *Location) setAll(query string) error {
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("s3 store URL has malformed parameters, " + forms)
	}
	for name, values := range parameters {
		if len(values) != 1 || values[0] == "" {
			return errors.New("s3 store URL's parameters need one value each, " + forms)
		}
		if err := l.set(name, values[0]); err != nil {
			return err
		}
	}
	return nil
}

func (l *Location) set(name, value string) error {
	switch name {
	case "region":
		l.Region = value
	case "endpoint":
		u, err := url.Parse(value)
		if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") {
			return errors.New("s3 store URL's endpoint must be an http or https URL without credentials")
		}
		l.Endpoint = value
	case "pathStyle":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("s3 store URL's pathStyle must be true or false")
		}
		l.PathStyle = b
	default:
		return errors.New("s3 store URL has an unknown parameter, " + forms)
	}
	return nil
}
