// semver answers, for each line {"range": R, "versions": [V…]} on stdin, which versions Masterminds' library finds in
// the range: {"ok": false} for a range that it refuses, else {"ok": true, "matches": "10…"}.
package main

import (
	"bufio"
	"encoding/json"
	"os"

	"github.com/Masterminds/semver/v3"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var question struct {
			Range    string
			Versions []string
		}
		if err := json.Unmarshal(in.Bytes(), &question); err != nil {
			panic(err)
		}
		answer := map[string]any{"ok": false}
		if constraint, err := semver.NewConstraint(question.Range); err == nil {
			matches := ""
			for _, text := range question.Versions {
				version, err := semver.StrictNewVersion(text)
				if err != nil {
					panic(err)
				}
				if constraint.Check(version) {
					matches += "1"
				} else {
					matches += "0"
				}
			}
			answer = map[string]any{"ok": true, "matches": matches}
		}
		if err := out.Encode(answer); err != nil {
			panic(err)
		}
	}
}
