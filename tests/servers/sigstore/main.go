// Package main is a private Sigstore in one executable, for tests: the certificate authority, the
// transparency log and the timestamp authority, each as its own project starts it.
//
//	sigstore fulcio|rekor|timestamp ARGUMENTS…
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	fulcio "github.com/sigstore/fulcio/cmd/app"
	rekor "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix/app"
	timestamp "github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server/app"
	"github.com/spf13/viper"
)

func main() {
	services := map[string]func(){
		"fulcio":    func() { fulcio.Execute(context.Background()) },
		"rekor":     rekor.Execute,
		"timestamp": timestamp.Execute,
	}
	if len(os.Args) < 2 || services[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: sigstore fulcio|rekor|timestamp ARGUMENTS…")
		os.Exit(2)
	}
	service := services[os.Args[1]]
	os.Args = append([]string{"sigstore-" + os.Args[1]}, os.Args[2:]...)
	bind(os.Args[1:])
	service()
}

// bind makes the command line win. All three read their settings from one global registry, where flags of
// equal names, such as http-port, hide each other.
func bind(arguments []string) {
	for i, argument := range arguments {
		name, value, given := strings.Cut(strings.TrimPrefix(argument, "--"), "=")
		switch {
		case !strings.HasPrefix(argument, "--"):
			continue
		case given:
			viper.Set(name, value)
		case i+1 < len(arguments) && !strings.HasPrefix(arguments[i+1], "--"):
			viper.Set(name, arguments[i+1])
		default:
			viper.Set(name, true)
		}
	}
}
