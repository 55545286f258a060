package richwall

import "github.com/spf13/cobra"

func newCheck() *cobra.Command { return &cobra.Command{Use: "check"} }
func newFmt() *cobra.Command   { return &cobra.Command{Use: "fmt"} }
func newLab() *cobra.Command   { return &cobra.Command{Use: "lab"} }
