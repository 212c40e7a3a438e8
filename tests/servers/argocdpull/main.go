// Package main extracts an artifact as Argo CD's repo-server does, with its own OCI client and its default settings.
//
// argocdpull oci://HOST/REPOSITORY REVISION DIRECTORY
//
// The directory receives a copy of what the repo-server would look for manifests in. The digest is printed.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	utilio "github.com/argoproj/argo-cd/v3/util/io"
	"github.com/argoproj/argo-cd/v3/util/oci"
)

// The defaults of ARGOCD_REPO_SERVER_OCI_LAYER_MEDIA_TYPES and ARGOCD_REPO_SERVER_OCI_MANIFEST_MAX_EXTRACTED_SIZE.
var layerMediaTypes = []string{
	"application/vnd.oci.image.layer.v1.tar",
	"application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.cncf.helm.chart.content.v1.tar+gzip",
}

const maxExtractedBytes = 1 << 30

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: argocdpull oci://HOST/REPOSITORY REVISION DIRECTORY")
		os.Exit(2)
	}
	digest, err := pull(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

func pull(repository, revision, directory string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client, err := oci.NewClient(repository, oci.Creds{InsecureHTTPOnly: true}, "", "", layerMediaTypes,
		oci.WithManifestMaxExtractedSize(maxExtractedBytes), oci.WithEventHandlers(silent()),
		oci.WithImagePaths(utilio.NewRandomizedTempPaths(os.TempDir())))
	if err != nil {
		return "", err
	}
	digest, err := client.ResolveRevision(ctx, revision, true)
	if err != nil {
		return "", err
	}
	extracted, closer, err := client.Extract(ctx, digest)
	if err != nil {
		return "", err
	}
	defer func() { _ = closer.Close() }()
	return digest, os.CopyFS(directory, os.DirFS(extracted))
}

// silent stands in for the repo-server's metrics.
func silent() oci.EventHandlers {
	nothing := func(string) func() { return func() {} }
	failed := func(string) func(string) { return func(string) {} }
	return oci.EventHandlers{
		OnExtract: nothing, OnResolveRevision: nothing, OnDigestMetadata: nothing, OnTestRepo: nothing,
		OnGetTags: nothing, OnExtractFail: failed, OnResolveRevisionFail: failed, OnDigestMetadataFail: failed,
		OnTestRepoFail: nothing, OnGetTagsFail: nothing,
	}
}
