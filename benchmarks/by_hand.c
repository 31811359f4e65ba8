/* The arithmetic of two trainings and nothing else, for their sizes alone, in float32. benchmarks/limit.py calls it.

sine_online: an Elman cell of 6 units, a gradient over one timestep, and a step of gradient descent after each point.
sincos_lstm: an LSTM of 32 units, a gradient over 10 timesteps, and a step of Adam after each. */

#include <math.h>
#include <string.h>

enum { UNITS = 6, PADDED = 8 };

/* W (7, 6): the rows are the input and the context; w (6): of the output. */
void sine_online(float *W, float *w, const float *x, const float *y, long epochs, long points, float rate,
                 float *losses) {
    float rows[1 + UNITS][PADDED] = {{0}}, out[PADDED] = {0};
    for (int i = 0; i < 1 + UNITS; i++) memcpy(rows[i], W + i * UNITS, sizeof(float) * UNITS);
    memcpy(out, w, sizeof(float) * UNITS);
    for (long epoch = 0; epoch < epochs; epoch++) {
        float context[PADDED] = {0};
        for (long t = 0; t < points; t++) {
            float next[PADDED], d[PADDED], output = 0;
            for (int j = 0; j < PADDED; j++) next[j] = x[t] * rows[0][j];
            for (int i = 0; i < UNITS; i++)
                for (int j = 0; j < PADDED; j++) next[j] += context[i] * rows[1 + i][j];
            for (int j = 0; j < PADDED; j++) next[j] = tanhf(next[j]);
            for (int j = 0; j < PADDED; j++) output += out[j] * next[j];
            float error = output - y[t];
            *losses++ = 0.5f * error * error;
            for (int j = 0; j < PADDED; j++) d[j] = rate * error * out[j] * (1 - next[j] * next[j]);
            for (int j = 0; j < PADDED; j++) out[j] -= rate * error * next[j];
            for (int j = 0; j < PADDED; j++) rows[0][j] -= x[t] * d[j];
            for (int i = 0; i < UNITS; i++)
                for (int j = 0; j < PADDED; j++) rows[1 + i][j] -= context[i] * d[j];
            memcpy(context, next, sizeof context);
        }
    }
    for (int i = 0; i < 1 + UNITS; i++) memcpy(W + i * UNITS, rows[i], sizeof(float) * UNITS);
    memcpy(w, out, sizeof(float) * UNITS);
}

enum { H = 32, N = 4 * H, T = 10 };

typedef struct { /* the matrix of the state is transposed: (H, N) */
    float input[N], state[H][N], bias1[N], bias2[N], out[H], out_bias;
} Parameters;

enum { COUNT = sizeof(Parameters) / sizeof(float) };

static float sigmoid(float a) { return 1 / (1 + expf(-a)); }

static float gradient(const Parameters *p, Parameters *g, const float *x, const float *y) {
    static float h[T + 1][H], c[T + 1][H], a[T][N], squashed[T][H], dz[T][N], d_output[T];
    float loss = 0, dh[H] = {0}, dc[H] = {0};
    for (int t = 0; t < T; t++) {
        float z[N], output = p->out_bias;
        for (int j = 0; j < N; j++) z[j] = p->bias1[j] + p->bias2[j] + x[t] * p->input[j];
        for (int k = 0; k < H; k++)
            for (int j = 0; j < N; j++) z[j] += h[t][k] * p->state[k][j];
        for (int j = 0; j < 2 * H; j++) a[t][j] = sigmoid(z[j]);
        for (int j = 2 * H; j < 3 * H; j++) a[t][j] = tanhf(z[j]);
        for (int j = 3 * H; j < N; j++) a[t][j] = sigmoid(z[j]);
        for (int k = 0; k < H; k++) {
            c[t + 1][k] = a[t][H + k] * c[t][k] + a[t][k] * a[t][2 * H + k];
            squashed[t][k] = tanhf(c[t + 1][k]);
            h[t + 1][k] = a[t][3 * H + k] * squashed[t][k];
        }
        for (int k = 0; k < H; k++) output += p->out[k] * h[t + 1][k];
        loss += (output - y[t]) * (output - y[t]) / T;
        d_output[t] = 2 * (output - y[t]) / T;
    }
    for (int t = T - 1; t >= 0; t--) {
        for (int k = 0; k < H; k++) {
            float i = a[t][k], f = a[t][H + k], n = a[t][2 * H + k], o = a[t][3 * H + k], s = squashed[t][k];
            float d = dh[k] + d_output[t] * p->out[k];
            dc[k] += d * o * (1 - s * s);
            dz[t][k] = dc[k] * n * i * (1 - i);
            dz[t][H + k] = dc[k] * c[t][k] * f * (1 - f);
            dz[t][2 * H + k] = dc[k] * i * (1 - n * n);
            dz[t][3 * H + k] = d * s * o * (1 - o);
            dc[k] *= f;
        }
        for (int k = 0; k < H; k++) {
            float sum = 0;
            for (int j = 0; j < N; j++) sum += p->state[k][j] * dz[t][j];
            dh[k] = sum;
        }
    }
    memset(g, 0, sizeof *g);
    for (int k = 0; k < H; k++)
        for (int t = 1; t < T; t++)
            for (int j = 0; j < N; j++) g->state[k][j] += h[t][k] * dz[t][j];
    for (int t = 0; t < T; t++) {
        for (int j = 0; j < N; j++) g->input[j] += x[t] * dz[t][j];
        for (int j = 0; j < N; j++) g->bias1[j] += dz[t][j];
        for (int k = 0; k < H; k++) g->out[k] += d_output[t] * h[t + 1][k];
        g->out_bias += d_output[t];
    }
    memcpy(g->bias2, g->bias1, sizeof g->bias1);
    return loss;
}

/* p: the parameters in the order of the struct; x and y (updates, 10). */
void sincos_lstm(float *parameters, const float *x, const float *y, long updates, float rate, float *losses) {
    Parameters p, g;
    float mean[COUNT] = {0}, square[COUNT] = {0}, *values = (float *)&p, *slopes = (float *)&g;
    memcpy(&p, parameters, sizeof p);
    for (long update = 0; update < updates; update++) {
        losses[update] = gradient(&p, &g, x + update * T, y + update * T);
        float step = rate / (1 - powf(0.9f, update + 1)), root = 1 / sqrtf(1 - powf(0.999f, update + 1));
        for (int n = 0; n < COUNT; n++) {
            mean[n] += 0.1f * (slopes[n] - mean[n]);
            square[n] = 0.999f * square[n] + 0.001f * slopes[n] * slopes[n];
            values[n] -= step * mean[n] / (sqrtf(square[n]) * root + 1e-8f);
        }
    }
    memcpy(parameters, &p, sizeof p);
}
