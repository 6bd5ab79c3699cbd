package s3_test

import (
	"crypto/sha1" //nolint:gosec // the SDK's name of a cache, no security
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/s3"
	"github.com/npcnix/npcnix/store/s3/s3test"
)

// noCredentials takes away every source of credentials that this machine may have.
func noCredentials(t *testing.T) (home string) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "") // t puts it back
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	home = t.TempDir()
	t.Setenv("HOME", home) // the SDK has looked at it already when this runs
	t.Setenv("AWS_CONFIG_FILE", home+"/.aws/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", home+"/.aws/credentials")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return home
}

func write(t *testing.T, path, data string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func keys(access, secret string) string {
	return fmt.Sprintf("aws_access_key_id = %s\naws_secret_access_key = %s\n", access, secret)
}

var good = keys(s3test.AccessKey, s3test.SecretKey)

// answering is a server that gives the same answer to each path.
func answering(t *testing.T, answers map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func inAnHour() string { return time.Now().Add(time.Hour).UTC().Format(time.RFC3339) }

// metadata are credentials as roles of containers and instances have them.
func metadata() string {
	return fmt.Sprintf(`{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": %q, "SecretAccessKey": %q, "Expiration": %q}`,
		s3test.AccessKey, s3test.SecretKey, inAnHour())
}

// sts are credentials as the security token service gives them for an action.
func sts(action string) string {
	return fmt.Sprintf(`<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials>`+
		`<AccessKeyId>%[2]s</AccessKeyId><SecretAccessKey>%[3]s</SecretAccessKey><SessionToken></SessionToken><Expiration>%[4]s</Expiration>`+
		`</Credentials></%[1]sResult></%[1]sResponse>`, action, s3test.AccessKey, s3test.SecretKey, inAnHour())
}

// Every source of the SDK's chain that can be tried without Amazon.
func TestSourcesOfCredentials(t *testing.T) {
	b := bucket(t)
	fill(t, open(t, server.URL(b, "")), "x")
	for name, set := range map[string]func(t *testing.T, home string){
		"environment": func(t *testing.T, _ string) {
			t.Helper()
			t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
			t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.SecretKey)
		},
		"default profile": func(t *testing.T, home string) {
			t.Helper()
			write(t, home+"/.aws/credentials", "[default]\n"+good)
		},
		"named profile in a named file": func(t *testing.T, home string) {
			t.Helper()
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write(t, home+"/elsewhere", "[default]\n"+keys("wrong", "wrong")+"[infra]\n"+good))
			t.Setenv("AWS_PROFILE", "infra")
		},
		"process": func(t *testing.T, home string) {
			t.Helper()
			out := write(t, home+"/out.json", fmt.Sprintf(`{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": %q}`, s3test.AccessKey, s3test.SecretKey))
			write(t, home+"/.aws/config", "[default]\ncredential_process = cat "+out+"\n")
		},
		"role of a profile": func(t *testing.T, home string) {
			t.Helper()
			t.Setenv("AWS_ENDPOINT_URL_STS", answering(t, map[string]string{"/": sts("AssumeRole")}))
			write(t, home+"/.aws/credentials", "[base]\n"+keys("base", "base"))
			write(t, home+"/.aws/config", "[default]\nregion = eu-test-1\nrole_arn = arn:aws:iam::123456789012:role/host\nsource_profile = base\n")
		},
		"web identity": func(t *testing.T, home string) {
			t.Helper()
			t.Setenv("AWS_ENDPOINT_URL_STS", answering(t, map[string]string{"/": sts("AssumeRoleWithWebIdentity")}))
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/host")
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", write(t, home+"/token", "a token"))
		},
		"single sign-on": func(t *testing.T, home string) {
			t.Helper()
			portal := fmt.Sprintf(`{"roleCredentials": {"accessKeyId": %q, "secretAccessKey": %q, "sessionToken": "", "expiration": %d}}`,
				s3test.AccessKey, s3test.SecretKey, time.Now().Add(time.Hour).UnixMilli())
			t.Setenv("AWS_ENDPOINT_URL_SSO", answering(t, map[string]string{"/federation/credentials": portal}))
			write(t, home+"/.aws/config", "[default]\nsso_start_url = https://example.org/start\nsso_region = eu-test-1\nsso_account_id = 123456789012\nsso_role_name = host\n")
			name := fmt.Sprintf("%x.json", sha1.Sum([]byte("https://example.org/start"))) //nolint:gosec // the cache's name, no security
			write(t, filepath.Join(home, ".aws/sso/cache", name), fmt.Sprintf(`{"accessToken": "a token", "expiresAt": %q}`, inAnHour()))
		},
		"container": func(t *testing.T, _ string) {
			t.Helper()
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", answering(t, map[string]string{"/role": metadata()})+"/role")
		},
		"instance": func(t *testing.T, _ string) {
			t.Helper()
			t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds(t))
		},
	} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // sets the environment
			set(t, noCredentials(t))
			if data, _, err := store.ReadAll(t.Context(), open(t, server.URL(b, "")), "a", 10, store.GetOptions{}); err != nil || string(data) != "x" {
				t.Errorf("%q %v", data, err)
			}
		})
	}
}

// imds is an instance's metadata service, version 2.
func imds(t *testing.T) string {
	t.Helper()
	const path = "/latest/meta-data/iam/security-credentials/"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
			_, _ = io.WriteString(w, "a token")
		case r.URL.Path == path:
			_, _ = io.WriteString(w, "host")
		case r.URL.Path == path+"host":
			_, _ = io.WriteString(w, metadata())
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestNoCredentialsSaysWhereTheyCouldBe(t *testing.T) { //nolint:paralleltest // sets the environment
	b := bucket(t)
	noCredentials(t)
	_, err := open(t, server.URL(b, "")).Get(t.Context(), "a", store.GetOptions{})
	if err == nil || !strings.Contains(err.Error(), "find AWS credentials in the environment, a profile") || errors.Is(err, store.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

// Keys that are rotated in a file, and sessions that are revoked before they
// say that they end, are found anew by an agent that goes on running.
func TestRotatedCredentialsAreFoundAnew(t *testing.T) { //nolint:paralleltest // sets the environment
	b := bucket(t)
	fill(t, open(t, server.URL(b, "")), "x")
	home := noCredentials(t)
	file := write(t, home+"/.aws/credentials", "[default]\n"+keys("npcnix-old-access", "old"))
	s := open(t, server.URL(b, ""))
	for range 2 {
		if _, err := s.Get(t.Context(), "a", store.GetOptions{}); !errors.Is(err, store.ErrUnauthorized) {
			t.Errorf("old keys: %v", err)
		}
	}
	write(t, file, "[default]\n"+good)
	if data, _, err := store.ReadAll(t.Context(), s, "a", 10, store.GetOptions{}); err != nil || string(data) != "x" {
		t.Errorf("rotated keys: %q %v", data, err)
	}

	role := map[string]any{"AccessKeyId": "npcnix-expired-access", "SecretAccessKey": "x", "Token": "revoked", "Expiration": inAnHour()}
	asked := 0
	container := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		if err := json.NewEncoder(w).Encode(role); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(container.Close)
	noCredentials(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.URL)
	s = behind(t, b, func(x exchange) {
		if x.r.Header.Get("X-Amz-Security-Token") == "revoked" {
			x.refuse(http.StatusBadRequest, "ExpiredToken")
			return
		}
		x.answer()
	})
	if _, err := s.Get(t.Context(), "a", store.GetOptions{}); !errors.Is(err, store.ErrUnauthorized) {
		t.Errorf("revoked session: %v", err)
	}
	role = map[string]any{"AccessKeyId": s3test.AccessKey, "SecretAccessKey": s3test.SecretKey, "Expiration": inAnHour()}
	for range 3 {
		if data, _, err := store.ReadAll(t.Context(), s, "a", 10, store.GetOptions{}); err != nil || string(data) != "x" {
			t.Errorf("new session: %q %v", data, err)
		}
	}
	if asked != 3 { // at first, after the refusal, and after the next
		t.Errorf("credentials were asked for %d times", asked)
	}
}

// encrypted is a server with a certificate that nobody knows.
func encrypted(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of clients that do not trust it
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// A bucket behind a private authority, over TLS.
func TestPrivateAuthority(t *testing.T) { //nolint:paralleltest // sets the environment
	b := bucket(t)
	backend, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	tls := encrypted(t, &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = backend.Scheme, backend.Host, p.In.Host
	}})
	address := strings.Replace(server.URL(b, ""), server.Endpoint, tls.URL, 1)
	if _, err := open(t, address).Stat(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw})
	t.Setenv("AWS_CA_BUNDLE", write(t, filepath.Join(t.TempDir(), "ca.pem"), string(ca)))
	s := open(t, address)
	fill(t, s, "x")
	if data, _, err := store.ReadAll(t.Context(), s, "a", 10, store.GetOptions{}); err != nil || string(data) != "x" {
		t.Errorf("with the authority: %q %v", data, err)
	}
	t.Setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
	loc, err := store.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s3.New(t.Context(), loc); err == nil || !strings.Contains(err.Error(), "/nowhere/ca.pem") {
		t.Errorf("a bundle that is not there: %v", err)
	}
}
