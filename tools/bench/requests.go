package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Prices of Amazon S3 Standard in us-east-1, in dollars a request, since 2017:
// https://aws.amazon.com/s3/pricing/. Answers 304 and 404 are paid for, too.
const (
	priceGet = 0.0004 / 1000
	pricePut = 0.005 / 1000
)

// requests counts at the server what a look costs, and in a day of virtual time
// how many looks there are.
func requests(ctx context.Context, b *bench) (string, error) {
	c, err := newCounter(b.server.Endpoint)
	if err != nil {
		return "", err
	}
	defer c.Close()
	address := strings.Replace(b.server.URL(bucket, "fleet"), b.server.Endpoint, c.URL, 1)
	agent := exec.CommandContext(ctx, b.program("npcnix-reconciler"), "--store", address, "--host", "web-1", "--root", filepath.Join(b.dir, "web-1"))
	agent.Env, agent.Dir = b.env, b.dir
	if err := agent.Start(); err != nil {
		return "", err
	}
	for c.of("GET 304") < 40 {
		time.Sleep(100 * time.Millisecond)
	}
	_ = agent.Process.Kill()
	_ = agent.Wait() // it was killed
	c.mu.Lock()
	looks := float64(c.count["GET 304"]) / 2 // HostSpec and Remote; there is no HostOverride
	perLook := float64(c.count["GET"]-1) / looks
	c.mu.Unlock()

	day := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-run", "^TestADayOfAdaptivePolling$", "./reconciler/host")
	day.Dir = "../.."
	out, err := day.CombinedOutput()
	found := regexp.MustCompile(`(\d+) looks, \d+ requests, (\d+) puts in a day`).FindSubmatch(out)
	if err != nil || found == nil {
		return "", errors.Join(fmt.Errorf("a day of virtual time: %s", bytes.TrimSpace(out)), err)
	}
	looksADay, _ := strconv.ParseFloat(string(found[1]), 64)
	putsADay, _ := strconv.ParseFloat(string(found[2]), 64)
	gets, puts := looksADay*perLook/24, putsADay/24
	month := (gets*priceGet + puts*pricePut) * 24 * 30
	return fmt.Sprintf("## Requests of one host in an hour\n\n| | requests | dollars a month |\n|---|---|---|\n"+
		"| GET, %.1f a look at the server | %.0f | %.3f |\n| PUT, heartbeats and changes | %.0f | %.3f |\n| together | %.0f | %.3f |\n\n"+
		"Of a day with one change in it. At S3's price of $0.0004 for 1,000 GETs and $0.005 for 1,000 PUTs, 1,000 hosts are $%.0f a month.\n",
		perLook, gets, gets*priceGet*720, puts, puts*pricePut*720, gets+puts, month, month*1000), nil
}

// overview measures the table of a fleet.
func overview(ctx context.Context, b *bench) (string, error) {
	const hosts = 1000
	address := "file://" + filepath.Join(b.dir, "store")
	status, err := b.output(ctx, "aws", "--endpoint-url", b.server.Endpoint, "s3", "cp", "s3://"+bucket+"/fleet/statuses/web-1.yaml", "-")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.dir, "fleet")
	for i := range hosts {
		name := fmt.Sprintf("host-%04d", i)
		for kind, data := range map[string]string{"statuses": status, "hosts": spec} {
			path := filepath.Join(dir, kind, name+".yaml")
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(strings.ReplaceAll(data, "web-1", name)), 0o644)); err != nil {
				return "", err
			}
		}
	}
	if err := os.Rename(dir, strings.TrimPrefix(address, "file://")); err != nil {
		return "", err
	}
	if _, err := b.output(ctx, "aws", "--endpoint-url", b.server.Endpoint, "s3", "sync", "--quiet", strings.TrimPrefix(address, "file://"), "s3://"+bucket+"/many"); err != nil {
		return "", err
	}
	var local, remote figures
	for range 3 {
		for to, from := range map[*figures]string{&local: address, &remote: b.server.URL(bucket, "many")} {
			t, err := timed(func() error {
				_, err := b.output(ctx, b.program("npcnix"), "--store", from, "get", "hosts")
				return err
			})
			if err != nil {
				return "", err
			}
			*to = append(*to, t)
		}
	}
	return fmt.Sprintf("## `npcnix get hosts` of %d hosts\n\n%s from a directory, %s from S3 over loopback.\n", hosts, local.spread("%.2f s"), remote.spread("%.2f s")), nil
}
