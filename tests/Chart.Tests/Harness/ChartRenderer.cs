using System.Diagnostics;
using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>Runs hack/chart-render, which builds the renderer when it must.</summary>
public static class ChartRenderer
{
    /// <summary>Renders the chart with values over its own; a missing key is an error.</summary>
    public static Rendering Render(JsonObject? values = null, params string[] options) => RenderChart(Repository.Chart, values, ["--strict", .. options]);

    public static Rendering RenderChart(string chart, JsonObject? values, params string[] options)
    {
        if (values is null || values.Count == 0)
            return Run([chart, .. options]);
        string file = Path.GetTempFileName();
        try
        {
            // JSON is YAML.
            File.WriteAllText(file, values.ToJsonString());
            return Run([chart, "--values", file, .. options]);
        }
        finally
        {
            File.Delete(file);
        }
    }

    /// <summary>Values as dotted paths.</summary>
    public static JsonObject Values(params (string Path, JsonNode? Value)[] set)
    {
        JsonObject values = [];
        foreach ((string path, JsonNode? value) in set)
            Pointer.Set(values, path, value);
        return values;
    }

    private static Rendering Run(string[] arguments) => Programs.Run(Repository.PathOf("hack/chart-render"), arguments);
}

/// <summary>Other programs.</summary>
public static class Programs
{
    public static Rendering Run(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        using Process process = Process.Start(start)!;
        // A thread of its own: tests that run in parallel hold those of the pool.
        string error = "";
        Thread reader = new(() => error = process.StandardError.ReadToEnd());
        reader.Start();
        string output = process.StandardOutput.ReadToEnd();
        reader.Join();
        process.WaitForExit();
        return new(process.ExitCode, output, error);
    }

    public static bool IsOnPath(string program) => (Environment.GetEnvironmentVariable("PATH") ?? "")
        .Split(':', StringSplitOptions.RemoveEmptyEntries)
        .Any(dir => File.Exists(Path.Combine(dir, program)));
}
